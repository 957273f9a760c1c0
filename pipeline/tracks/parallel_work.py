"""One video whose shards are followed at once, and joined in their order as they come."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa

from pipeline.config_trackers import Sam2Config
from pipeline.engine.cause import Cause
from pipeline.records import ShardTask
from pipeline.tracks.edges import Edge, load_edge, save_edge
from pipeline.tracks.joins import Join, join, renumbered
from pipeline.tracks.landed import ShardRows
from pipeline.tracks.shards import Opening, SavedState, ShardTracks
from pipeline.tracks.video_work import Due, Followed, VideoWork

AHEAD = 64
"""Shards of one video that are under way, or wait for one before them, at most: a shard's rows with
their masks take some MiB."""


class ParallelWork(VideoWork):
    """See `VideoWork`; any of the next shards is given, and each is opened anew.

    The state behind a shard is its tail, by the ids of the video, and the largest of these.
    """

    def __init__(
        self,
        config: Sam2Config,
        opening: Opening,
        tasks: Iterable[ShardTask],
        attempts: int,
        again: frozenset[int] = frozenset(),
    ) -> None:
        super().__init__(replace(opening, saved=None), tasks, attempts, again)
        self._config = config
        self._last = self._tasks[-1]
        self._due = deque(self._tasks)
        self._failed: Counter[int] = Counter()
        self._waiting: dict[int, tuple[ShardTracks | Cause, ShardRows]] = {}
        self._last_id, self._tail = 0, Edge()
        if opening.saved is not None:
            facts = opening.saved.facts
            self._last_id = facts["last_id"]
            self._tail = load_edge(facts["edge"], opening.saved.tensors)

    def next(self) -> Due | None:
        if self.is_done or not self._due:
            return None
        ahead = _number(self._due[0]) - _number(self._tasks[0])
        if ahead >= AHEAD:
            return None
        task = self._due.popleft()
        return Due(self.opening, task, task is self._last)

    def came(
        self, task: ShardTask, came: ShardTracks | Cause, rows: ShardRows
    ) -> Iterator[Followed]:
        number = _number(task)
        if isinstance(came, Cause):
            self._failed[number] += 1
            if not came.final and self._failed[number] < self._attempts:
                self._due.appendleft(task)
                return
        self._waiting[number] = came, rows
        while self._tasks and (found := self._waiting.pop(_number(self._tasks[0]), None)):
            this, of_this = found
            if isinstance(this, Cause):
                self.strikes = self._failed[_number(self._tasks[0])]
                yield Followed(self, self._tasks[0], this, of_this)
                return
            next_task = self._tasks.popleft()
            yield Followed(self, next_task, self._joined(this, next_task is self._last), of_this)

    def give_up(self) -> None:
        super().give_up()
        self._due.clear()
        self._waiting.clear()

    def _joined(self, tracks: ShardTracks, is_last: bool) -> ShardTracks:
        """The same by the ids of the video, in the order of rows."""
        assert tracks.edges is not None
        joins = join(self._tail, tracks.edges.head, self._config)
        numbers = set(tracks.rows["track_id"].to_pylist())
        ids, self._last_id = renumbered(numbers, joins, self._last_id)
        of_rows = [ids[number] for number in tracks.rows["track_id"].to_pylist()]
        rows = pa.table({**tracks.rows, "track_id": pa.array(of_rows, pa.int32())})
        rows = rows.sort_by([("frame_index", "ascending"), ("track_id", "ascending")])
        tail = tracks.edges.tail
        known = (replace(one, track_id=ids[one.track_id]) for one in tail.tracks)
        self._tail = Edge() if is_last else replace(tail, tracks=tuple(known))
        edge, tensors = save_edge(self._tail)
        facts: dict[str, Any] = {"last_id": self._last_id, "edge": edge}
        facts["joins"] = [_recorded(one, ids) for one in joins if one.behind in numbers]
        columns = {name: rows.column(name).combine_chunks() for name in rows.column_names}
        return ShardTracks(columns, SavedState(facts, tensors))


def _number(task: ShardTask) -> int:
    return task.shard.shard_index


def _recorded(one: Join, ids: dict[int, int]) -> dict[str, Any]:
    """As `Ledger.track_joins` gives it."""
    return {"track_id": ids[one.behind], "iou": one.iou, "similarity": one.similarity}
