"""yuv420p frames and what FFmpeg makes of them."""

from __future__ import annotations

import av
import numpy as np

from pipeline.clip_pixels import Pixels


def random_yuv(
    count: int, width: int, height: int, *, bt709: bool = False, full_range: bool = False
) -> Pixels:
    """Every value of every plane, and with it colours that no RGB has."""
    rng = np.random.default_rng(width)
    data = rng.integers(0, 256, (count, height * 3 // 2, width), dtype=np.uint8)
    return Pixels(data, "yuv420p", width, height, full_range=full_range, bt709=bt709)


def as_rgb(pixels: Pixels) -> np.ndarray:
    """uint8 (N, height, width, 3) by FFmpeg through PyAV."""
    return np.stack([_frame(pixels, data).to_ndarray(format="rgb24") for data in pixels.data])


def _frame(pixels: Pixels, data: np.ndarray) -> av.VideoFrame:
    frame = av.VideoFrame(pixels.width, pixels.height, "yuv420p")
    flat, start = data.reshape(-1), 0
    for plane in frame.planes:
        padded = np.zeros((plane.height, plane.line_size), dtype=np.uint8)
        size = plane.height * plane.width
        padded[:, : plane.width] = flat[start : start + size].reshape(plane.height, plane.width)
        plane.update(padded.tobytes())
        start += size
    # FFmpeg's AVColorSpace: BT.709 is 1, BT.470BG (the matrix of BT.601) is 5.
    frame.colorspace = 1 if pixels.bt709 else 5
    frame.color_range = 2 if pixels.full_range else 1
    return frame
