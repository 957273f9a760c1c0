"""Where the tables of an output are: the one seam through which every path goes."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake import DeltaTable

from pipeline.errors import RunAborted, UsageError
from pipeline.ledger.schema import plain

if TYPE_CHECKING:
    import pyarrow.dataset as ds
    import pyarrow.fs as pa_fs

    from pipeline.ledger.files import Files

_REFUSED = "%[]^|\\"
"""delta-rs turns a path into a URL and back: these end in an error, or (a percent sign followed
by two digits) in another folder."""

SPARE_BYTES = 64 * 2**10
"""Beside the rows of a commit: footers, the entry in the log."""


@dataclass(frozen=True)
class Store:
    """The root of an output, and what it takes to open it. Only local folders so far."""

    root: str
    storage_options: dict[str, str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        bad = sorted(set(_REFUSED) & set(os.path.abspath(self.root)))
        if bad:
            raise UsageError(
                f"output {self.root}: the path holds {' '.join(bad)}, which Delta tables cannot be "
                f"kept under; rename the folder (none of {' '.join(_REFUSED)} may be in it)"
            )

    @property
    def is_past(self) -> bool:
        """Whether its tables stay as they once were (see `history`)."""
        return False

    def uri(self, table: str) -> str:
        return os.path.join(os.path.abspath(self.root), table)

    def filesystem(self, table: str) -> pa_fs.FileSystem:
        """A file system rooted at the table. Arrow's own: no Python in its reading threads."""
        import pyarrow.fs as pa_fs

        return pa_fs.SubTreeFileSystem(self.uri(table), pa_fs.LocalFileSystem())

    def exists(self, table: str) -> bool:
        # Looked for first: some versions of deltalake make the folder that they look into.
        there = os.path.isdir(os.path.join(self.uri(table), "_delta_log"))
        return there and DeltaTable.is_deltatable(self.uri(table), self.storage_options)

    def open(self, table: str) -> DeltaTable:
        """A fresh snapshot. Raises TableNotFoundError where there is no such table."""
        return DeltaTable(self.uri(table), storage_options=self.storage_options)

    def dataset(self, table: str, snapshot: DeltaTable) -> ds.Dataset:
        """The files of a snapshot, each with its partition and statistics for skipping.

        Read it through `scan`, which knows of files that Arrow cannot filter.
        """
        return self.files(table, snapshot).all

    def files(self, table: str, snapshot: DeltaTable) -> Files:
        """The files of a snapshot as its log lists them."""
        from pipeline.ledger.files import Files

        return Files(table, snapshot, self.filesystem(table))

    def log_entry(self, table: str, version: int) -> bytes | None:
        """The raw log of one version (JSON lines), None where it is not kept any more."""
        try:
            with self.filesystem(table).open_input_stream(f"_delta_log/{version:020d}.json") as f:
                return f.read()
        except FileNotFoundError:
            return None

    def check_room(self, nbytes: int) -> None:
        """Raise RunAborted where the disk has no room for so many bytes more.

        Asked beforehand, because a full disk breaks the threads of the Delta library in the
        middle of a file, of which they say much and nothing that helps.
        """
        free = shutil.disk_usage(self.root).free
        if free < nbytes + SPARE_BYTES:
            raise RunAborted(
                f"output {self.root}: no space left on the disk ({free:,} bytes are free, a commit "
                f"may take {nbytes + SPARE_BYTES:,}); make room and run again: what was committed "
                "is kept"
            )

    def prepare(self) -> None:
        """Make the root where it is missing. Raises UsageError where it cannot be."""
        try:
            Path(self.root).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"output {self.root}: cannot make the folder: {error.strerror or error}"
            ) from None


def empty(table: str) -> pa.Table:
    """A table without rows, in the table's schema."""
    return plain(table).empty_table()
