"""The clock of a video, for filters that predict by elapsed time and not by rows.

A filter's step is the time since the frame before in units of the video's nominal frame interval:
with stride 4 it is 4, at a gap of a variable frame rate whatever the gap is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.records import VideoIndex

_FPS = 30.0
"""Of a video whose own rate nothing tells."""


@dataclass(frozen=True)
class Clock:
    """When the frames of a video are shown."""

    frames_per_s: float
    """The nominal rate: one over the median interval between two frames, sampled or not."""
    seconds: np.ndarray
    """float64 (frame_count,): strictly ascending."""


def clock_of(index: VideoIndex) -> Clock:
    """The clock of a video by its pts; by counting frames where those do not ascend."""
    seconds = index.pts_seconds(index.pts)
    steps = np.diff(seconds)
    if len(steps) and bool(np.all(steps > 0)):
        return Clock(1.0 / float(np.median(steps)), seconds)
    rate = _FPS
    if index.frame_count and index.duration_s > 0:
        rate = index.frame_count / index.duration_s
    return Clock(rate, np.arange(index.frame_count) / rate)
