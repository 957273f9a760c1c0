"""What other runs have recorded since a run read its books, so that it is not recorded twice.

Rows of shards have ids, and land once. Rows of `videos` and `failures` belong to no shard: that a
file cannot be read may be found by two runs, of which the second had read the books before the
first recorded it. A commit leaves such rows out:

    the run reads the books, videos at version 7
    another run commits version 8: a.mp4 failed, no video
    the run finds the same of a.mp4, and commits version 9 without it

What was recorded before that version counts for nothing: a file that is tried again, and fails
again, is recorded again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.ledger.keys import KeySet
from pipeline.ledger.schema import plain
from pipeline.ledger.store import Store

LOGS = ("failures", "videos")
"""The tables whose rows belong to no shard."""

_BY_RUN = {"run_id", "recorded_at", "attempts"}
"""Columns in which two runs differ that say the same."""


class SaidByOthers:
    """The rows of a table that other runs have added after a version.

    Args:
        since: the table's version when the run's books were read.
        run_id: the run's own.
    """

    def __init__(self, store: Store, table: str, since: int, run_id: str) -> None:
        self._files = store.filesystem(table)
        self._columns = [name for name in plain(table).names if name not in _BY_RUN]
        self._run_id = run_id
        self._said = KeySet()
        self.since = since

    def note(self) -> Mapping[str, object]:
        """What a commit of the run says in its metadata, so that its own writers need not read
        its rows."""
        return {"run": self._run_id}

    def hear(self, version: int, note: Mapping[str, object], added: Iterable[str]) -> None:
        """Take in one commit.

        Args:
            note: its metadata.
            added: the files of the rows that it has added, below the table.
        """
        if version <= self.since or note.get("run") == self._run_id:
            return
        for path in added:
            try:
                rows = pq.read_table(path, filesystem=self._files, columns=self._columns)
            except FileNotFoundError:
                continue  # Cleaned up since: rather said twice than not at all.
            for statement in _statements(rows):
                self._said.add(statement)

    def left_out(self, rows: pa.Table) -> pa.Table:
        """The rows but for those that others have said."""
        said = [one in self._said for one in _statements(rows.select(self._columns))]
        return rows.filter(pa.array([not one for one in said], pa.bool_())) if any(said) else rows


def _statements(rows: pa.Table) -> list[str]:
    return [json.dumps(row, sort_keys=True) for row in rows.to_pylist()]
