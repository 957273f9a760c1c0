"""Parts of a video as users name them: `90`, `1:30`, `0:01:30.5` or, exactly, `2700f`."""

from __future__ import annotations

import re

import numpy as np

from pipeline.errors import UsageError
from pipeline.records import VideoIndex

_FRAME = re.compile(r"(\d+)f", re.ASCII)
_SECONDS = re.compile(r"-?\d+(\.\d*)?|\.\d+", re.ASCII)
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d*)?)", re.ASCII)


def frame_range(index: VideoIndex, start: str | None, end: str | None) -> tuple[int, int]:
    """Frames `[first, stop)` from `start` up to, not including, `end`.

    Args:
        start, end: pts in seconds, a clock's time, or a frame index with an `f` behind it. A time
            is that of the first frame at or after it. None: the video's own.

    Raises UsageError where one cannot be read, or no frame lies between them.
    """
    first = frame_at(index, start, "--start") if start is not None else 0
    stop = frame_at(index, end, "--end") if end is not None else index.frame_count
    if first >= index.frame_count:
        seconds = index.pts_seconds(index.pts[-1:])[0]
        last = f"the last frame is {index.frame_count - 1}, at {seconds:.3f} s"
        raise UsageError(f"--start {start}: behind the end of the video: {last}")
    if stop <= first:
        given = " ".join(
            f"{name} {text}" for name, text in (("--start", start), ("--end", end)) if text
        )
        raise UsageError(f"{given}: no frame lies in there; the frame of --end is not included")
    return first, stop


def frame_at(index: VideoIndex, text: str, option: str) -> int:
    """The first frame at or after a point in time; frame_count where there is none."""
    if found := _FRAME.fullmatch(text):
        return min(int(found[1]), index.frame_count)
    seconds = index.pts_seconds(index.pts)
    # A time that was printed with milliseconds means the frame that it was printed for.
    return int(np.searchsorted(seconds, _seconds(text, option) - 0.0005))


def _seconds(text: str, option: str) -> float:
    if _SECONDS.fullmatch(text):
        return float(text)
    if found := _CLOCK.fullmatch(text):
        hours, minutes, seconds = int(found[1] or 0), int(found[2]), float(found[3])
        if seconds < 60 and (found[1] is None or minutes < 60):
            return hours * 3600 + minutes * 60 + seconds
    raise UsageError(
        f"{option} {text}: give seconds (90.5), a time (0:01:30.5) or a frame index (2700f)"
    )
