"""In which order videos that are due are worked.

    discovery     as they are found: nothing is held, and work begins with the first
    newest        by their time of modification, the latest first
    oldest        the same, the earliest first
    stale-first   first those that are known as they are and lack rows (of a new model, or of a run
                  that was stopped), then those that have changed, then those never seen

Those that are equal in that stay in the order of discovery. All but `discovery` look through the
inputs before work begins, and hold what is due in arrays: some 350 bytes a video at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from pipeline.errors import UsageError
from pipeline.records import Source

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.resume import State

Priority = Literal["discovery", "newest", "oldest", "stale-first"]

_RANKS: dict[State, int] = {"unfinished": 0, "stale": 0, "changed": 1, "new": 2}
_PACKED = 1024
_AT_ONCE = 64
"""Handed out together, and looked at again then: few, since they may take hours."""


def check_priority(name: str) -> None:
    """Raises UsageError for one that is none of them."""
    if name not in get_args(Priority):
        raise UsageError(f"--priority {name}: choose {', '.join(get_args(Priority))}")


class Backlog:
    """Sources that are due, put in order once all are known."""

    def __init__(self, priority: Priority) -> None:
        self._priority = priority
        self._keys: list[np.ndarray] = []
        """float64: what the sources are ordered by, ascending."""
        self._batches: list[pa.RecordBatch] = []
        self._latest: list[tuple[Source, State]] = []

    def add(self, source: Source, state: State) -> None:
        self._latest.append((source, state))
        if len(self._latest) == _PACKED:
            self._pack()

    def in_order(self) -> Iterator[list[Source]]:
        """All of them, some at a time."""
        import pyarrow as pa

        self._pack()
        if not self._batches:
            return
        sources = pa.Table.from_batches(self._batches).combine_chunks()
        self._batches = []
        order = np.argsort(np.concatenate(self._keys), kind="stable")
        for at in range(0, len(order), _AT_ONCE):
            rows = sources.take(pa.array(order[at : at + _AT_ONCE]))
            yield [Source(*row) for row in zip(*rows.to_pydict().values(), strict=True)]

    def _pack(self) -> None:
        import pyarrow as pa

        if not self._latest:
            return
        sources = [source for source, _ in self._latest]
        self._keys.append(np.array([self._key(*one) for one in self._latest], np.float64))
        columns = {
            "uri": pa.array([s.uri for s in sources], pa.large_string()),
            "stamp": pa.array([s.stamp for s in sources], pa.large_string()),
            "size_bytes": pa.array([s.size_bytes for s in sources], pa.int64()),
            "modified_s": pa.array([s.modified_s for s in sources], pa.float64()),
        }
        self._batches.append(pa.RecordBatch.from_pydict(columns))
        self._latest = []

    def _key(self, source: Source, state: State) -> float:
        if self._priority == "stale-first":
            return _RANKS[state]
        return -source.modified_s if self._priority == "newest" else source.modified_s
