"""What is left of one video's tracks, as it is handed out shard by shard, and how it failed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from pipeline.engine.cause import Cause
from pipeline.records import ShardTask
from pipeline.tracks.landed import ShardRows
from pipeline.tracks.shards import Opening, ShardTracks


class Due(NamedTuple):
    """A shard to be followed: the arguments of `VideoFollower.follow` but for its rows."""

    opening: Opening | None
    task: ShardTask
    is_last: bool


class VideoWork:
    """One video's shards that lack tracks, in order, each to be followed after the one before.

    Args:
        opening: the video behind the shards that have landed.
        tasks: all shards from there on.
        attempts: how often a shard is tried before the video is given up.
        again: numbers of the shards among them that have landed: the state behind them is lost.
    """

    def __init__(
        self,
        opening: Opening,
        tasks: Iterable[ShardTask],
        attempts: int,
        again: frozenset[int] = frozenset(),
    ) -> None:
        self.opening = opening
        self.again = again
        self.strikes = 0
        self._tasks = deque(tasks)
        self._attempts = attempts
        self._is_open = False

    @property
    def is_done(self) -> bool:
        return not self._tasks

    @property
    def video_id(self) -> str:
        return self.opening.index.video_id

    @property
    def left(self) -> tuple[ShardTask, ...]:
        """The shards whose tracks have not come."""
        return tuple(self._tasks)

    def next(self) -> Due:
        """The shard to be followed now. Once it is `done`, or has `failed`, ask again."""
        return Due(None if self._is_open else self.opening, self._tasks[0], len(self._tasks) == 1)

    def done(self, tracks: ShardTracks) -> ShardTask:
        """Its tracks have come."""
        self.opening = replace(self.opening, saved=tracks.state)
        self._is_open, self.strikes = True, 0
        return self._tasks.popleft()

    def give_up(self) -> None:
        """Nothing more of it is to be followed."""
        self._tasks.clear()

    def failed(self, cause: Cause) -> bool:
        """It could not be followed. Whether it is to be tried again: anywhere, from the state
        behind the shard before."""
        self._is_open = False
        self.strikes += 1
        return not cause.final and self.strikes < self._attempts


class Followed(NamedTuple):
    """What has become of a video's next shard."""

    work: VideoWork
    task: ShardTask
    came: ShardTracks | Cause
    """A cause: the video is given up, from this shard on."""
    rows: ShardRows
    """What the tracks were made of."""


RowsOf = Callable[[ShardTask], ShardRows]
"""What has landed of a shard."""

Stop = Callable[[], bool]
"""Whether no more shards are to be begun."""

Spread = Callable[[Iterator[VideoWork], RowsOf, Stop], Iterator[Followed]]
"""Follows videos on whatever there is; they are given as they are asked for."""
