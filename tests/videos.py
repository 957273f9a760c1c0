"""Small videos whose frames carry their index, in the forms that trip frame indices."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.demo.pattern import draw_index
from pipeline.demo.video import write_video

WIDTH, HEIGHT = 128, 96

FORMS: dict[str, dict[str, Any]] = {
    "plain.mp4": {"gop": 10},
    "b-frames.mp4": {"gop": 20, "b_frames": 3},
    "one-keyframe.mp4": {"gop": 1000, "b_frames": 2},
    "rotated-90.mp4": {"gop": 10, "rotation": 90},
    "rotated-180.mp4": {"gop": 10, "rotation": 180},
    "rotated-270.mp4": {"gop": 10, "rotation": 270},
    "vp9.webm": {"codec": "libvpx-vp9", "gop": 12},
    "hevc.mp4": {"codec": "libx265", "gop": 12, "b_frames": 2},
    "matroska.mkv": {"gop": 15, "b_frames": 2, "fps": Fraction(30000, 1001)},
    "transport.ts": {"gop": 15, "b_frames": 2},
    "mpeg4.ts": {"codec": "mpeg4", "gop": 12, "b_frames": 2},
    "flash.flv": {"gop": 12, "b_frames": 2},
    "ten-bit.mp4": {"codec": "libx265", "gop": 12, "pixel_format": "yuv420p10le"},
    "yuv444.mp4": {"gop": 12, "pixel_format": "yuv444p"},
}

WITHOUT_PTS: dict[str, dict[str, Any]] = {
    "plain.avi": {"codec": "mpeg4", "gop": 12},
    "b-frames.avi": {"gop": 20, "b_frames": 3},
    "program.mpg": {"gop": 15, "b_frames": 2, "fps": 25},
    "repeated.mkv": {"gop": 12, "fps": 3000},
}
"""Containers, or rates, that leave frames without a pts of their own."""


def numbered(count: int, width: int = WIDTH, height: int = HEIGHT) -> Iterator[np.ndarray]:
    """Frames of a changing colour that carry their index."""
    for i in range(count):
        frame = np.empty((height, width, 3), np.uint8)
        frame[:] = (40 + i % 160, 90, 200 - i % 160)
        frame[: height // 2, : width // 4] = (200, 200 - i % 100, 30)
        draw_index(frame, i)
        yield frame


def make(
    path: Path, count: int = 60, *, width: int = WIDTH, height: int = HEIGHT, **settings: Any
) -> Path:
    """Write a video of `count` numbered frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, numbered(count, width, height), **settings)


def make_large(
    path: Path, count: int, *, width: int = WIDTH, height: int = HEIGHT, **settings: Any
) -> Path:
    """The same of noise, which takes all the bytes it can: 20 KB a frame of the default size."""
    rng = np.random.default_rng(count)
    frames = (rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count))
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, frames, options={"preset": "ultrafast"}, **settings)


def uneven(count: int) -> dict[str, Any]:
    """Settings for a variable frame rate."""
    steps = [1 + (i * 7) % 5 for i in range(count)]
    pts = [int(p) for p in np.cumsum([0, *steps[:-1]]) * 300]
    return {"pts": pts, "time_base": Fraction(1, 9000), "gop": 16, "b_frames": 2}
