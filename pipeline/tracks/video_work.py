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
        """How often the shard that comes next has failed."""
        self._tasks = deque(tasks)
        self._attempts = attempts
        self._is_open = False
        self._under_way = False

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

    def next(self) -> Due | None:
        """A shard to be followed now; None where others have to come before. Each is given once,
        and again after it has failed."""
        if self._under_way or not self._tasks:
            return None
        self._under_way = True
        return Due(None if self._is_open else self.opening, self._tasks[0], len(self._tasks) == 1)

    def came(
        self, task: ShardTask, came: ShardTracks | Cause, rows: ShardRows
    ) -> Iterator[Followed]:
        """What has become of a shard that was given; what is known by it, in the order of shards.

        Nothing of one that failed and is to be tried again: anywhere, from the state behind the
        shard before.
        """
        self._under_way = False
        if isinstance(came, Cause):
            self._is_open = False
            self.strikes += 1
            if came.final or self.strikes >= self._attempts:
                yield Followed(self, task, came, rows)
            return
        self.opening = replace(self.opening, saved=came.state)
        self._is_open, self.strikes = True, 0
        yield Followed(self, self._tasks.popleft(), came, rows)

    def let_go(self) -> None:
        """Whoever has followed it does so no more: it is gone on with wherever there is one."""
        self._is_open = False

    def give_up(self) -> None:
        """Nothing more of it is to be followed."""
        self._tasks.clear()


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
