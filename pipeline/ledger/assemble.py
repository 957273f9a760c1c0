"""Shards whose results are still coming, put together from clips and ends in any order."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.records import ClipResult, ShardEnd, ShardTask


@dataclass
class Parts:
    """What has come of one attempt at a shard."""

    task: ShardTask
    attempt: int
    results: list[ClipResult] = field(default_factory=list)
    end: ShardEnd | None = None
    nbytes: int = 0

    @property
    def is_whole(self) -> bool:
        return self.end is not None and len(self.results) >= len(self.task.shard.clips)


class Assembly:
    """The shards of a run that are not whole yet.

    Results of an attempt that is unknown, superseded or discarded are ignored.
    """

    def __init__(self) -> None:
        self._pending: dict[str, Parts] = {}

    @property
    def nbytes(self) -> int:
        return sum(parts.nbytes for parts in self._pending.values())

    def begin(self, task: ShardTask, attempt: int) -> None:
        """Results of this attempt will come; what an earlier attempt sent is dropped."""
        parts = self._pending.get(task.key)
        if parts is None or parts.attempt < attempt:
            self._pending[task.key] = Parts(task, attempt)

    def add_result(self, result: ClipResult) -> Parts | None:
        """Take one clip. Returns the shard's parts, and forgets them, where it is whole now."""
        parts = self._wanted(result.task_key, result.attempt)
        if parts is None:
            return None
        parts.results.append(result)
        parts.nbytes += result.nbytes
        return self._whole(parts)

    def add_end(self, end: ShardEnd) -> Parts | None:
        """Take the end of a shard's stream, which may come before its last clips."""
        parts = self._wanted(end.task_key, end.attempt)
        if parts is None:
            return None
        parts.end = end
        return self._whole(parts)

    def discard(self, task_key: str, attempt: int) -> None:
        """An attempt has failed: forget what it sent, and ignore what may still come of it."""
        if self._wanted(task_key, attempt) is not None:
            del self._pending[task_key]

    def awaits(self, task_key: str, attempt: int) -> bool:
        """Whether results of this attempt are still to come."""
        return self._wanted(task_key, attempt) is not None

    def _wanted(self, task_key: str, attempt: int) -> Parts | None:
        parts = self._pending.get(task_key)
        return parts if parts is not None and parts.attempt == attempt else None

    def _whole(self, parts: Parts) -> Parts | None:
        return self._pending.pop(parts.task.key) if parts.is_whole else None
