"""The tables of an output as they are now: opened once, then kept up to date."""

from __future__ import annotations

import os

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from pipeline.ledger.damage import DamagedOutput
from pipeline.ledger.files import Files
from pipeline.ledger.store import Store


class Snapshots:
    """The newest version of each table that was asked for, with its files.

    delta-rs takes most of a millisecond to find that nothing has been committed since, and a
    lookup asks it of four tables. On a disk two names tell as much: a commit is the entry in the
    log that follows the last one, until a checkpoint has it and the entry may be removed.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: dict[str, DeltaTable] = {}
        self._listed: dict[str, tuple[int, Files]] = {}
        self._checkpoint: dict[str, int] = {}
        """When that of each table was written, before the table was looked at."""

    def of(self, name: str, *, now: bool = True) -> DeltaTable:
        """The table as it is now, or was when it was last looked at, which costs nothing. Raises
        DamagedOutput where there is none."""
        snapshot = self._open.get(name)
        if snapshot is None:
            self._checkpoint[name] = self._checkpointed(name)
            try:
                snapshot = self._open[name] = self._store.open(name)
            except TableNotFoundError:
                raise DamagedOutput(
                    f"output {self._store.root}: the table {name} is missing; bring it back from a "
                    "copy, or name another output"
                ) from None
        elif now and not self._store.is_past:
            checkpointed = self._checkpointed(name)
            if checkpointed != self._checkpoint[name] or self._follows(name, snapshot.version()):
                snapshot.update_incremental()
                self._checkpoint[name] = checkpointed
        return snapshot

    def files(self, name: str, *, now: bool = True) -> Files:
        """The files of the table as it is now, or was."""
        snapshot = self.of(name, now=now)
        version, files = self._listed.get(name, (-1, None))
        if files is None or version != snapshot.version():
            files = self._store.files(name, snapshot, files)
            self._listed[name] = snapshot.version(), files
        return files

    def _checkpointed(self, name: str) -> int:
        if self._store.is_remote:
            return 0
        try:
            return os.stat(f"{self._store.uri(name)}/_delta_log/_last_checkpoint").st_mtime_ns
        except OSError:
            return 0

    def _follows(self, name: str, version: int) -> bool:
        """Whether a later version is in the log, or may be: on a store only delta-rs looks."""
        entry = f"{self._store.uri(name)}/_delta_log/{version + 1:020d}.json"
        return self._store.is_remote or os.path.exists(entry)
