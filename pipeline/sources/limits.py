"""What a single video may cost, and how a refusal is worded: the key to raise is named."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.errors import VideoError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.video.codeccontext import VideoCodecContext

    from pipeline.config import DecodeConfig


def above(stage: str, what: str, key: str, value: object) -> VideoError:
    """The error for a video that a limit stops; `what` is what was found."""
    return VideoError(
        stage,
        f"{what}: above decode.{key} = {value}; raise decode.{key} and run with --retry-failed",
    )


def check_frames(stage: str, count: int, limits: DecodeConfig) -> None:
    """Raise VideoError where `count` frames (or packets of one each) are too many."""
    if count > limits.max_frames:
        raise above(stage, "more frames", "max_frames", limits.max_frames)


def check_picture(stage: str, width: int, height: int, limits: DecodeConfig) -> None:
    """Raise VideoError where a picture has too many pixels."""
    if width * height > limits.max_pixels:
        raise above(stage, f"a picture of {width}x{height}", "max_pixels", limits.max_pixels)


def check_duration(stage: str, seconds: float, limits: DecodeConfig) -> None:
    """Raise VideoError where the pts of a video span too much time."""
    if seconds > limits.max_duration:
        what = f"pts that span {seconds:,.0f} s"
        raise above(stage, what, "max_duration", f"{limits.max_duration:g}")


def refuse_large_pictures(context: VideoCodecContext, limits: DecodeConfig) -> None:
    """Let the decoder itself refuse them, before it has taken memory for one: the size may change
    within a stream, and a header may lie. Only before the first packet."""
    context.options = {**context.options, "max_pixels": str(limits.max_pixels)}


@contextmanager
def memory_errors(stage: str, limits: DecodeConfig) -> Iterator[None]:
    """Memory that is not to be had, for Python or for FFmpeg, is the video's failure."""
    try:
        yield
    except MemoryError:
        what = f"out of memory with decode.max_memory = {limits.max_memory}"
        hint = "raise decode.max_memory and run with --retry-failed"
        raise VideoError(stage, f"{what}; {hint}") from None
