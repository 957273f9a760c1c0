"""Rows that are ready for the next commit, by table and by the id that they will land under."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pyarrow as pa

from pipeline.ledger.journal import Note
from pipeline.ledger.schema import DATA_TABLES


@dataclass(frozen=True)
class ReadyShard:
    """One shard of one analysis, as it goes into a table."""

    rows: pa.Table
    shard: pa.Table
    """Its row of `shards`."""


class Buffer:
    """What a writer holds between two commits; filled by the entries of its journal."""

    def __init__(self) -> None:
        self.ready: dict[str, dict[str, ReadyShard]] = {table: {} for table in DATA_TABLES}
        self.shards: dict[str, pa.Table] = {}
        """Rows of `shards` whose data has landed."""
        self.indexes: dict[str, pa.Table] = {}
        self.logs: dict[str, dict[str, list[pa.Table]]] = {"failures": {}, "videos": {}}
        """Rows that belong to no shard, per table and batch of the journal."""
        self.nbytes = 0
        self._since: float | None = None

    @property
    def waited_s(self) -> float | None:
        """For how long the oldest of it has been here; None where nothing is."""
        return None if self._since is None else time.monotonic() - self._since

    def holds(self, name: str, table: str) -> bool:
        """Whether the shard is here, or has landed and only its row of `shards` is."""
        return name in self.ready[table] or name in self.shards

    def take(self, batch: str, entry: list[Note]) -> None:
        """Add an entry of the journal."""
        rows: dict[tuple[str, str], pa.Table] = {}
        for note in entry:
            if note.kind == "index":
                self.indexes[note.name] = note.rows
            elif note.kind == "rows":
                rows[note.table, note.name] = note.rows
            elif note.kind == "shard":
                whole = ReadyShard(rows[note.table, note.name], note.rows)
                self.ready[note.table][note.name] = whole
            elif note.kind in self.logs:
                self.logs[note.kind].setdefault(batch, []).append(note.rows)
            self.nbytes += note.rows.nbytes
        if entry and self._since is None:
            self._since = time.monotonic()

    def committed(self) -> None:
        """Nothing is left that no table has."""
        self.nbytes = 0
        self._since = None
