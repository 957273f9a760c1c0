"""Frames that score best, with the near-duplicates around each merged into one moment.

    score of a frame        .  .  :  |  :  .     .  |  :  .  .
    moments                    [     *  ]           [ *  ]

The best frame of all is the first moment's best, and its moment is the unbroken run of frames
around it that look like it (cosine of the embeddings). The best of all other frames is the next
one's, and so on: greedy non-maximum suppression, along time.

A search sees a few thousand rows at a time, so it works on two levels. `local_peaks` does the above
within the rows at hand, which leaves few of them, each with the rows that it suppressed. `Peak`s of
all parts then meet, best first: one that lies in the moment of a better one goes, and of what it
had suppressed, that which lies outside of this moment is looked at again. So the result does not
depend on how the rows lie in files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NEAR = 0.95
"""Cosine from which neighbouring frames count as near-duplicates."""
_FIRST_WINDOW = 16
_ROUNDING_S = 1e-6


@dataclass(frozen=True)
class Rows:
    """Rows of one video that follow each other, in the order of their frames."""

    video_id: str
    frames: np.ndarray
    """int64 (n,), ascending."""
    times: np.ndarray
    """float64 (n,): seconds."""
    vectors: np.ndarray
    """float32 (n, dimensions), of unit length."""


@dataclass(frozen=True)
class Peak:
    """A frame that scores better than those around it that look like it."""

    score: float
    video_id: str
    frame: int
    time_s: float
    vector: np.ndarray
    run: np.ndarray
    """int64: the frames of its run as far as the rows at hand went, its own among them."""
    run_times: np.ndarray
    """float64: their seconds."""
    open_before: bool
    """Whether the run begins with the first of the rows at hand: it may go on before."""
    open_behind: bool
    covered: tuple[tuple[int, float], tuple[int, float]]
    """First and last (frame, seconds) of the rows that it suppressed, inclusive."""

    @property
    def key(self) -> tuple[float, str, int]:
        """Best first; of equal scores the earlier frame."""
        return -self.score, self.video_id, self.frame


@dataclass(frozen=True)
class Moment:
    """An unbroken run of near-duplicates around the frame that scores best; inclusive."""

    score: float
    video_id: str
    frame: int
    time_s: float
    start_frame: int
    start_s: float
    end_frame: int
    end_s: float

    def takes(self, frames: np.ndarray, times: np.ndarray, every_s: float) -> np.ndarray:
        """bool (n,): rows of its video that no other moment may have.

        Those in it, and those less than `every_s` from its best frame.
        """
        inside = (frames >= self.start_frame) & (frames <= self.end_frame)
        return inside | (np.abs(times - self.time_s) < every_s - _ROUNDING_S)


def taken(
    moments: list[Moment], frames: np.ndarray, times: np.ndarray, every_s: float
) -> np.ndarray:
    """bool (n,): rows that one of the moments, all of their video, takes."""
    found = np.zeros(len(frames), bool)
    for moment in moments:
        found |= moment.takes(frames, times, every_s)
    return found


def local_peaks(
    rows: Rows,
    scores: np.ndarray,
    due: np.ndarray,
    free: np.ndarray,
    near: float | None,
    every_s: float,
    most: int,
) -> list[Peak]:
    """The best of the rows, each with its run, best first.

    Args:
        scores: (n,).
        due: bool (n,), rows that may be the best of a moment.
        free: bool (n,), rows that no moment has yet.
        near: cosine from which neighbours are one moment; None where each frame is its own.
        every_s: least seconds between two of them.
        most: how many at most.
    """
    free = free.copy()
    candidates = np.flatnonzero(due & free)
    order = candidates[np.lexsort((candidates, -scores[candidates]))]
    found: list[Peak] = []
    count = len(rows.frames)
    for best in order.tolist():
        if not free[best]:
            continue
        start, stop = reach(rows.vectors, best, near) if near is not None else (best, best + 1)
        low, high = _unbroken(free, best, start, stop)
        time_s = float(rows.times[best])
        if every_s:
            close = np.flatnonzero(np.abs(rows.times - time_s) < every_s - _ROUNDING_S)
            free[close] = False
            low, high = min(low, int(close[0])), max(high, int(close[-1]) + 1)
        free[low:high] = False
        found.append(
            Peak(
                score=float(scores[best]),
                video_id=rows.video_id,
                frame=int(rows.frames[best]),
                time_s=time_s,
                vector=rows.vectors[best].copy(),
                run=rows.frames[start:stop].copy(),
                run_times=rows.times[start:stop].copy(),
                open_before=near is not None and start == 0,
                open_behind=near is not None and stop == count,
                covered=(
                    (int(rows.frames[low]), float(rows.times[low])),
                    (int(rows.frames[high - 1]), float(rows.times[high - 1])),
                ),
            )
        )
        if len(found) == most:
            break
    return found


def reach(vectors: np.ndarray, best: int, near: float) -> tuple[int, int]:
    """[start, stop): the unbroken run of rows around `best` with at least this cosine to it."""
    behind = _length(vectors[best + 1 :], vectors[best], near)
    before = _length(vectors[:best][::-1], vectors[best], near)
    return best - before, best + 1 + behind


def _length(vectors: np.ndarray, best: np.ndarray, near: float) -> int:
    """How many of the first rows look like `best`. Mostly few: windows grow as they are needed."""
    at, window = 0, _FIRST_WINDOW
    while at < len(vectors):
        alike = np.einsum("ij,j->i", vectors[at : at + window], best) >= near
        if not alike.all():
            return at + int(np.argmin(alike))
        at, window = at + window, window * 2
    return len(vectors)


def _unbroken(free: np.ndarray, best: int, start: int, stop: int) -> tuple[int, int]:
    """The part of [start, stop) around `best` in which all rows are free."""
    before = np.flatnonzero(~free[start:best])
    behind = np.flatnonzero(~free[best + 1 : stop])
    low = start + int(before[-1]) + 1 if len(before) else start
    high = best + 1 + int(behind[0]) if len(behind) else stop
    return low, high


def unbroken_run(peak: Peak, free: np.ndarray) -> tuple[int, int, bool, bool]:
    """(first, last, open before, open behind): places in `peak.run` of the part that is free.

    An end of it that is not the end of the rows at hand is closed.
    """
    best = int(np.searchsorted(peak.run, peak.frame))
    low, high = _unbroken(free, best, 0, len(peak.run))
    open_before = peak.open_before and low == 0
    return low, high - 1, open_before, peak.open_behind and high == len(peak.run)
