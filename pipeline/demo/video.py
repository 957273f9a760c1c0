"""Write frames as a video file: codec, frame times, keyframes and display rotation as asked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.demo.world import World

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

Image = npt.NDArray[np.uint8]
Rotation = Literal[0, 90, 180, 270]


def write_video(
    path: Path,
    frames: World | Iterable[Image],
    *,
    codec: str = "libx264",
    fps: Fraction | float = 30,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    gop: int = 30,
    b_frames: int = 0,
    rotation: Rotation = 0,
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
) -> Path:
    """Encode `frames` into `path`, whose ending names the container, and return it.

    `frames` is a world or displayed frames, uint8 RGB (height, width, 3) of one even size.
    They are shown at a constant `fps`, or at `pts` (rising, in units of `time_base`) for a
    variable frame rate. At most `gop` frames lie between keyframes, at most `b_frames` B-frames
    between the frames that they refer to.

    `rotation` is what a player has to apply, in degrees counter-clockwise: what PyAV reads back
    as `frame.rotation` (modulo 360), and `av_display_rotation_get` of FFmpeg. The picture is
    stored turned the other way, so that the displayed picture is the frame.

    The file appears under its name when it is complete, replacing one that was there.
    """
    import av

    path = Path(path)
    if (pts is None) != (time_base is None):
        raise ValueError(f"pts come with their time base: {pts is None = }, {time_base = }")
    if rotation not in (0, 90, 180, 270):
        raise ValueError(f"a display rotation is a multiple of 90 below 360: {rotation = }")
    rate = Fraction(fps).limit_denominator(100_000)
    unit = time_base if time_base is not None else 1 / rate
    images = (
        (frames.render(i) for i in range(frames.frame_count))
        if isinstance(frames, World)
        else iter(frames)
    )
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        with av.open(str(part), "w") as container:
            stream: VideoStream | None = None
            for number, image in enumerate(images):
                stored = np.ascontiguousarray(np.rot90(image, -rotation // 90))
                if stream is None:
                    stream = _open_stream(
                        container, codec, rate, unit, stored.shape, pixel_format, gop, b_frames
                    )
                    stream.options = {**_codec_options(codec, gop, b_frames), **(options or {})}
                    if rotation:
                        stream.set_display_rotation(rotation)
                frame = av.VideoFrame.from_ndarray(stored, format="rgb24").reformat(
                    format=pixel_format
                )
                frame.pts = number if pts is None else pts[number]
                frame.time_base = unit
                container.mux(stream.encode(frame))
            if stream is None:
                raise ValueError(f"a video has at least one frame: {path}")
            container.mux(stream.encode(None))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def variable_pts(count: int, seed: int, *, mean_fps: float = 30.0) -> tuple[list[int], Fraction]:
    """`count` rising pts of an uneven frame rate, and their time base (1/90000 s).

    Gaps lie between half and one and a half of the mean, and every tenth or so is three times
    as long, as in a recording whose camera drops frames.
    """
    rng = np.random.default_rng([seed, 0xF95])
    gaps = rng.uniform(0.5, 1.5, count) * np.where(rng.random(count) < 0.1, 3, 1)
    ticks = np.maximum(1, np.round(gaps * 90_000 / mean_fps)).astype(np.int64)
    return [0, *np.cumsum(ticks[:-1]).tolist()], Fraction(1, 90_000)


def _open_stream(
    container: OutputContainer,
    codec: str,
    rate: Fraction,
    unit: Fraction,
    shape: tuple[int, ...],
    pixel_format: str,
    gop: int,
    b_frames: int,
) -> VideoStream:
    height, width = shape[:2]
    stream: Any = container.add_stream(codec, rate=rate)
    stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
    stream.time_base = stream.codec_context.time_base = unit
    stream.codec_context.gop_size = gop
    if codec != "libvpx-vp9":
        stream.codec_context.max_b_frames = b_frames
    stream.codec_context.thread_count = 1  # the bytes do not depend on the machine's cores
    return stream


def _codec_options(codec: str, gop: int, b_frames: int) -> dict[str, str]:
    """Settings for files that are small, quickly made, and have exactly the GOP asked for."""
    if codec == "libx264":
        return {"preset": "veryfast", "crf": "23", "sc_threshold": "0", "b-adapt": "0"}
    if codec == "libx265":
        x265 = f"keyint={gop}:bframes={b_frames}:scenecut=0:b-adapt=0:log-level=error"
        return {"preset": "ultrafast", "crf": "25", "x265-params": x265}
    if codec == "libvpx-vp9":
        return {"deadline": "realtime", "cpu-used": "8", "crf": "32", "b": "0"}
    if codec == "mpeg4":
        return {"flags": "qscale", "global_quality": str(4 * 118)}  # in FF_QP2LAMBDA
    return {}
