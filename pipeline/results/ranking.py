"""The best moments of all embeddings for a query: exact, in one pass, in bounded memory.

pass       every row group, on all cores: cosine of each row; of rows that can still matter
           the local peaks; of these the best `POOL` stay
settle     best first: to its whole extent where it may go on in another row group; again
           what it had suppressed where it lies itself in a better moment
repeat     only where so many of the best were of the same moments that fewer than k are left
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from pipeline.results.moments import (
    Moment,
    Peak,
    Rows,
    local_peaks,
    taken,
    unbroken_run,
)
from pipeline.results.vectors import Block

POOL = 256
"""Peaks that are kept at least."""
_SPAN_FRAMES = 4096
"""Frames of a video read at once to see how far a moment goes."""

Due = Callable[[str, np.ndarray], np.ndarray | None]
"""Of a video's frames (int64, n) which may be found, as bool (n,); None for none."""


@dataclass(frozen=True)
class Wanted:
    """What is searched for."""

    query: np.ndarray
    """float32 (dimensions,), of unit length."""
    k: int
    near: float | None
    """Cosine from which neighbours are one moment; None where each frame is its own."""
    every_s: float = 0.0
    """Least seconds between the best frames of two moments of a video."""
    due: Due = lambda _, frames: np.ones(len(frames), bool)
    last_frame: Callable[[str], int] = lambda _: 2**62
    """Of a video: how far a moment can go."""


def best_moments(vectors: Table, wanted: Wanted) -> list[Moment]:
    """The k best, best first; of equal scores that of the lesser video_id, then frame."""
    search = _Search(vectors, wanted)
    while True:
        pool = search.scan()
        search.settle(pool)
        if len(search.found) >= wanted.k or pool.is_complete:
            return search.found


class Table(Protocol):
    """Rows to be searched; see `vectors.Vectors`."""

    def each(self, use: Callable[[Block], None]) -> None:
        """Call `use` with every block, maybe from several threads."""
        ...

    def between(self, video_id: str, first: int, last: int) -> Rows | None:
        """All rows of a video's frames from `first` to `last`, inclusive."""
        ...


class Pool:
    """The best peaks so far, for several threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._peaks: list[Peak] = []
        self.floor = -np.inf
        """What scores less cannot get in any more."""
        self.last: tuple[float, str, int] | None = None
        """The key of the last that is in, where others are not."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing has been left out."""
        return self.floor == -np.inf

    def add(self, peaks: list[Peak]) -> None:
        with self._lock:
            self._peaks += peaks
            if len(self._peaks) > self._size:
                self._peaks = heapq.nsmallest(self._size, self._peaks, key=lambda peak: peak.key)
                self.last = self._peaks[-1].key
                self.floor = self._peaks[-1].score

    def best_first(self) -> list[Peak]:
        return sorted(self._peaks, key=lambda peak: peak.key)


@dataclass
class _Search:
    vectors: Table
    wanted: Wanted
    found: list[Moment] = field(default_factory=list)
    _by_video: dict[str, list[Moment]] = field(default_factory=dict)

    # -- a pass over all rows ---------------------------------------------------------

    def scan(self) -> Pool:
        """The local peaks of all rows that no moment has yet."""
        size = max(POOL, 2 * self.wanted.k) if self.wanted.near is not None else self.wanted.k
        pool = Pool(size)
        # One more than it holds: so it knows of what it leaves out.
        self.vectors.each(lambda block: self._look(block, pool, size + 1))
        return pool

    def _look(self, block: Block, pool: Pool, most: int) -> None:
        query = self.wanted.query
        # einsum and not BLAS, whose threads would fight those that read.
        rough = np.einsum("ij,j->i", block.vectors, query)
        # Rounding of a float32 dot product is below this; which of two is better is decided in
        # float64, of the few rows that get so far.
        slack = len(query) * float(np.finfo(np.float32).eps)
        hopeful = rough >= pool.floor - slack
        if not hopeful.any():
            return
        for video_id, part in block.by_video():
            if hopeful[part].any():
                for rows in block.rows(video_id, part):
                    pool.add(self._peaks(rows, pool.floor, most))

    def _peaks(self, rows: Rows, floor: float, most: int) -> list[Peak]:
        allowed = self.wanted.due(rows.video_id, rows.frames)
        if allowed is None:
            return []
        scores = exact_scores(rows.vectors, self.wanted.query, floor)
        free = ~self._taken(rows.video_id, rows.frames, rows.times)
        due = allowed & (scores >= floor)
        if not due.any():
            return []
        near, every_s = self.wanted.near, self.wanted.every_s
        return local_peaks(rows, scores, due, free, near, every_s, most)

    def _taken(self, video_id: str, frames: np.ndarray, times: np.ndarray) -> np.ndarray:
        return taken(self._by_video.get(video_id, []), frames, times, self.wanted.every_s)

    # -- peaks to moments -------------------------------------------------------------

    def settle(self, pool: Pool) -> None:
        """Make moments of peaks, best first, until there are k or none is left."""
        order = itertools.count()  # Of equal peaks: one may be found again.
        heap = [(peak.key, next(order), peak) for peak in pool.best_first()]
        while heap and len(self.found) < self.wanted.k:
            _, _, peak = heapq.heappop(heap)
            covered = [peak.covered]
            while heap and heap[0][0] == peak.key:
                covered.append(heapq.heappop(heap)[2].covered)
            if not self._taken(peak.video_id, np.array([peak.frame]), np.array([peak.time_s]))[0]:
                moment = self._whole(peak)
                self.found.append(moment)
                self._by_video.setdefault(peak.video_id, []).append(moment)
            first, last = min(c[0] for c in covered), max(c[1] for c in covered)
            for again in self._left_of(peak.video_id, first, last, pool.floor):
                # Those behind the last of the pool wait, as what it left out, for the next pass.
                if pool.last is None or again.key <= pool.last:
                    heapq.heappush(heap, (again.key, next(order), again))

    def _whole(self, peak: Peak) -> Moment:
        """The moment of a peak, as far as it goes in its video."""
        free = ~self._taken(peak.video_id, peak.run, peak.run_times)
        first, last, open_before, open_behind = unbroken_run(peak, free)
        start = int(peak.run[first]), float(peak.run_times[first])
        end = int(peak.run[last]), float(peak.run_times[last])
        if open_before:
            start = self._extended(peak, start, -1)
        if open_behind:
            end = self._extended(peak, end, 1)
        here = (peak.score, peak.video_id, peak.frame, peak.time_s)
        return Moment(*here, *start, *end)

    def _extended(self, peak: Peak, edge: tuple[int, float], step: int) -> tuple[int, float]:
        """The last row, forwards or backwards from `edge`, up to which all look like the peak."""
        for rows in self._beyond(peak.video_id, edge[0], step):
            assert self.wanted.near is not None
            alike = np.einsum("ij,j->i", rows.vectors, peak.vector) >= self.wanted.near
            alike &= ~self._taken(peak.video_id, rows.frames, rows.times)
            alike = alike[::step]
            length = len(alike) if alike.all() else int(np.argmin(alike))
            if length:
                at = length - 1 if step > 0 else len(alike) - length
                edge = int(rows.frames[at]), float(rows.times[at])
            if length < len(alike):
                break
        return edge

    def _beyond(self, video_id: str, frame: int, step: int) -> Iterator[Rows]:
        """Rows behind (or before) a frame, part by part away from it."""
        last = self.wanted.last_frame(video_id)
        while 0 <= frame + step <= last:
            if step > 0:
                bounds = frame + 1, frame + _SPAN_FRAMES
            else:
                bounds = max(0, frame - _SPAN_FRAMES), frame - 1
            rows = self.vectors.between(video_id, *bounds)
            if rows is not None:
                yield rows
            frame = bounds[1] if step > 0 else bounds[0]

    def _left_of(
        self, video_id: str, first: tuple[int, float], last: tuple[int, float], floor: float
    ) -> list[Peak]:
        """Peaks among the rows that a settled one had suppressed and that no moment has taken.

        Args:
            first, last: (frame, seconds), inclusive.
        """
        edges = np.array([first[0], last[0]]), np.array([first[1], last[1]])
        moments = self._by_video.get(video_id, [])
        if any(moment.takes(*edges, self.wanted.every_s).all() for moment in moments):
            return []
        rows = self.vectors.between(video_id, first[0], last[0])
        if rows is None:
            return []
        return self._peaks(rows, floor, len(rows.frames))


def exact_scores(vectors: np.ndarray, query: np.ndarray, floor: float = -np.inf) -> np.ndarray:
    """float32 (n,): dot products summed in float64, the same for a row wherever it lies.

    Rows that are below `floor` in any case have a rough score.
    """
    rough: np.ndarray = np.einsum("ij,j->i", vectors, query)
    slack = len(query) * float(np.finfo(np.float32).eps)
    close = np.flatnonzero(rough >= floor - slack)
    exact = np.einsum("ij,j->i", vectors[close].astype(np.float64), query.astype(np.float64))
    rough[close] = exact.astype(np.float32)
    return rough
