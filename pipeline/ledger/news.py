"""What other runs have landed since this one read the books, from the notes of their commits.

A run that has ended, or let go of what it had taken, may have done what the books of another
still call due: its leases are gone, and nothing of it is to be seen but its commits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from pipeline.ledger.catchup import shards_noted
from pipeline.ledger.delta import commit_notes
from pipeline.ledger.schema import DATA_TABLES
from pipeline.ledger.store import Store
from pipeline.storage.uris import is_remote

PAUSE_S = 1.0
"""Between two looks at a store, where one costs some requests."""


class News:
    """Videos of which others have landed anything. Reads the log's newest entries, each once."""

    def __init__(self, store: Store, run_id: str, versions: dict[str, int]) -> None:
        """`versions`: of the data tables when the books were read; -1 where there was none."""
        self._store = store
        self._run_id = run_id
        self._versions = dict(versions)
        self._videos: set[bytes] = set()
        self._pause_s = PAUSE_S if is_remote(store.root) else 0.0
        self._next_look = 0.0

    def of(self, video_id: str) -> bool:
        """Whether another run has landed anything of the video."""
        if time.monotonic() >= self._next_look:
            for table in DATA_TABLES:
                self._videos.update(self._landed_since(table))
            self._next_look = time.monotonic() + self._pause_s
        return _key(video_id) in self._videos

    def _landed_since(self, table: str) -> Iterator[bytes]:
        while self._store.log_entry(table, version := self._versions[table] + 1) is not None:
            self._versions[table] = version
            for _, note in commit_notes(self._store, table, [version]):
                for row in shards_noted(note):
                    if row["run_id"] != self._run_id:
                        yield _key(row["video_id"])


def _key(video_id: str) -> bytes:
    return bytes.fromhex(video_id[:32])
