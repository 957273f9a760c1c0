"""Which frames of a video are looked at: exact indices, from integer arithmetic on pts alone."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from pipeline.records import VideoIndex

_INT64_SAFE = 2**62


def sampled_frames(index: VideoIndex, sampling: dict[str, object]) -> np.ndarray:
    """Frame indices that `sampling` selects: int64, ascending, frame 0 always among them.

    `sampling` is the canonical form of the configuration (`Sampling.identity()`), as it is kept
    in the tables: `{"stride": 4}`, `{"fps": "30000/1001"}` or `{"keyframes": True}`.
    """
    if "fps" in sampling:
        # Time that goes back (two streams one behind the other) stands still until it is made up.
        pts = index.pts if index.exact_pts else np.maximum.accumulate(index.pts)
        return at_rate(pts, index.time_base, Fraction(str(sampling["fps"])))
    if "keyframes" in sampling:
        return index.keyframes.astype(np.int64)
    return np.arange(0, index.frame_count, int(str(sampling["stride"])), dtype=np.int64)


def at_rate(pts: np.ndarray, time_base: Fraction, fps: Fraction) -> np.ndarray:
    """Frames nearest to the ticks 0, 1/fps, 2/fps ... after the first frame.

    Every tick up to the last frame takes the frame nearest to it in time (the earlier one of
    two as near), and a frame taken by several ticks (a gap in a variable-rate video) is taken
    once. Seen from the frame: it is taken if a tick lies in the half-open interval between the
    midpoints to its neighbours. Ticks are integers when time is counted in 1/fps, so all of it is
    integer division, without a rounded float anywhere:

        frames   |    |      |  |      |
        midpoints   ^     ^    ^   ^
        ticks    0     1     2     3        -> frames 0, 1, 2 or 3, ...

    Args:
        pts: int64 (n,), ascending.
        time_base: seconds per pts tick.
        fps: samples per second, above 0.

    Returns:
        int64 indices into `pts`, ascending, without repeats.
    """
    if not len(pts):
        return np.empty(0, dtype=np.int64)
    numerator = time_base.numerator * fps.numerator
    denominator = time_base.denominator * fps.denominator
    span = int(pts[-1]) - int(pts[0])
    # int64 where the products fit, Python's integers (exact, slower) where they do not: a
    # nanosecond time base over hours times a rate such as 30000/1001 does not.
    fits = 2 * span * numerator < _INT64_SAFE and 2 * denominator < _INT64_SAFE
    since_first = (pts - pts[0]) if fits else (pts.astype(object) - int(pts[0]))
    # Twice the midpoint between frame i and i+1; the last frame ends at its own time.
    upper = np.append(since_first[:-1] + since_first[1:], 2 * since_first[-1])
    last_tick = (upper * numerator) // (2 * denominator)
    # Tick 0 belongs to frame 0: nothing lies before it.
    ticks_before = np.append([-1], last_tick[:-1])
    return np.flatnonzero(last_tick > ticks_before).astype(np.int64)
