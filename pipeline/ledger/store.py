"""Where the tables of an output are: the one seam through which every path goes."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake import DeltaTable

from pipeline.errors import RunAborted, UsageError
from pipeline.ledger.folder import Folder, folder_at
from pipeline.ledger.schema import plain
from pipeline.storage import objects
from pipeline.storage.uris import is_remote, join, split, unknown_scheme

if TYPE_CHECKING:
    import pyarrow.dataset as ds
    import pyarrow.fs as pa_fs

    from pipeline.ledger.files import Files

_REFUSED = "%[]^|\\"
"""delta-rs turns a path into a URL and back: these end in an error, or (a percent sign followed
by two digits) in another folder."""
_REFUSED_IN_URIS = _REFUSED + "#?"

SPARE_BYTES = 64 * 2**10
"""Beside the rows of a commit: footers, the entry in the log."""
CHECKPOINT_INTERVAL = "5"
"""Commits between checkpoints of a log on a store, where every commit since the last one costs two
requests of whoever opens the table. On a disk it is Delta's 100."""


@dataclass(frozen=True)
class Store:
    """The root of an output, and what it takes to open it: a local folder, or a URI of a store."""

    root: str
    _there: set[str] = field(default_factory=set, init=False, repr=False, compare=False)
    """On a store: tables that are known to exist."""

    def __post_init__(self) -> None:
        name = check_root(self.root)
        refused = _REFUSED_IN_URIS if self.is_remote else _REFUSED
        bad = sorted(set(refused) & set(name))
        if bad:
            raise UsageError(
                f"output {self.root}: the path holds {' '.join(bad)}, which Delta tables cannot be "
                f"kept under; rename the folder (none of {' '.join(refused)} may be in it)"
            )

    @property
    def is_past(self) -> bool:
        """Whether its tables stay as they once were (see `history`)."""
        return False

    @cached_property
    def is_remote(self) -> bool:
        """Whether it is on an object store."""
        return is_remote(self.root)

    @property
    def is_begun(self) -> bool:
        """Whether anything is there at all: an empty folder is."""
        return bool(self.folder.folders("")) if self.is_remote else os.path.isdir(self.root)

    @cached_property
    def folder(self) -> Folder:
        """The plain files beside the tables, and those that tables consist of."""
        return folder_at(self.root)

    @cached_property
    def storage_options(self) -> dict[str, str] | None:
        if not self.is_remote:
            return None
        from pipeline.storage.tables import delta_options

        return delta_options(self.root)

    def uri(self, table: str) -> str:
        return join(check_root(self.root), table)

    def filesystem(self, table: str) -> pa_fs.FileSystem:
        """A file system rooted at the table. On a disk Arrow's own: no Python in its reading
        threads."""
        import pyarrow.fs as pa_fs

        if self.is_remote:
            from pipeline.storage.tables import ArrowFiles

            return pa_fs.PyFileSystem(ArrowFiles(self.uri(table)))
        return pa_fs.SubTreeFileSystem(self.uri(table), pa_fs.LocalFileSystem())

    def exists(self, table: str) -> bool:
        if self.is_remote:
            if table not in self._there:
                self._there.update(self.folder.folders(""))
            return table in self._there
        # Looked for first: some versions of deltalake make the folder that they look into.
        there = os.path.isdir(os.path.join(self.uri(table), "_delta_log"))
        return there and DeltaTable.is_deltatable(self.uri(table))

    def open(self, table: str) -> DeltaTable:
        """A fresh snapshot. Raises TableNotFoundError where there is no such table, StoreError
        where it is on a store that is away or refuses."""
        return self._opened(table, None)

    def _opened(self, table: str, version: int | None) -> DeltaTable:
        if not self.is_remote:
            return DeltaTable(self.uri(table), version=version)
        with objects.explained(self.uri(table)):
            return DeltaTable(
                self.uri(table), version=version, storage_options=self.storage_options
            )

    def dataset(self, table: str, snapshot: DeltaTable) -> ds.Dataset:
        """The files of a snapshot, each with its partition and statistics for skipping.

        Read it through `scan`, which knows of files that Arrow cannot filter.
        """
        return self.files(table, snapshot).all

    def files(self, table: str, snapshot: DeltaTable, before: Files | None = None) -> Files:
        """The files of a snapshot as its log lists them; `before` are those of an earlier one."""
        from pipeline.ledger.files import Files

        return Files(table, snapshot, self.filesystem(table), before)

    def log_entry(self, table: str, version: int) -> bytes | None:
        """The raw log of one version (JSON lines), None where it is not kept any more."""
        try:
            return self.folder.read(f"{table}/_delta_log/{version:020d}.json")
        except FileNotFoundError:
            return None

    def check_room(self, nbytes: int) -> None:
        """Raise RunAborted where the disk has no room for so many bytes more.

        Asked beforehand, because a full disk breaks the threads of the Delta library in the
        middle of a file, of which they say much and nothing that helps. A store has room.
        """
        if self.is_remote:
            return
        free = shutil.disk_usage(self.root).free
        if free < nbytes + SPARE_BYTES:
            raise RunAborted(
                f"output {self.root}: no space left on the disk ({free:,} bytes are free, a commit "
                f"may take {nbytes + SPARE_BYTES:,}); make room and run again: what was committed "
                "is kept"
            )

    def prepare(self) -> None:
        """Make the root where it is missing. Raises UsageError where it cannot be."""
        if self.is_remote:
            return
        try:
            Path(self.root).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"output {self.root}: cannot make the folder: {error.strerror or error}"
            ) from None


def check_root(root: str) -> str:
    """An output as an absolute path, or as a URI that names its bucket. Raises UsageError."""
    scheme = unknown_scheme(root)
    if scheme is not None:
        raise UsageError(
            f"output {root}: {scheme}:// is no store known here; name a folder, or a "
            "place at s3://, gs:// or az://"
        )
    if is_remote(root):
        try:
            return split(root).uri
        except ValueError as error:
            raise UsageError(f"output {error}") from None
    if re.match(r"(s3a?|gs|gcs|az|azure):/[^/]", root):
        raise UsageError(
            f"output {root}: a URI that has lost a slash, as pathlib makes it; give it as text"
        )
    return os.path.abspath(root)


def empty(table: str) -> pa.Table:
    """A table without rows, in the table's schema."""
    return plain(table).empty_table()
