"""The files of a table as its log lists them, and which of them can hold what is asked for.

deltalake can make a dataset of a snapshot too, but takes 1 to 2 ms a file for it, and all files
before the first is skipped. Here the log's statistics stay columns, 30 us a file: to find a
video, two comparisons over all files leave a few, and only those become fragments.
"""

from __future__ import annotations

from functools import cached_property, reduce
from operator import and_
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipeline.ledger.schema import TABLES, plain

if TYPE_CHECKING:
    import pyarrow.fs as pa_fs
    from deltalake import DeltaTable


_KEPT_FILES = 32
"""Files of a table whose footers are kept: those that lookups have opened last."""


class Files:
    """The files of one version of a table.

    Args:
        table: name of the table.
        snapshot: the version.
        filesystem: rooted at the table.
        before: the files of an earlier version; what is known of them is not read again.
    """

    def __init__(
        self,
        table: str,
        snapshot: DeltaTable,
        filesystem: pa_fs.FileSystem,
        before: Files | None = None,
    ) -> None:
        self._spec = TABLES[table]
        self._filesystem = filesystem
        self._listed = pa.table(snapshot.get_add_actions(flatten=True)).combine_chunks()
        self._kept: dict[str, ds.Fragment] = before._kept if before is not None else {}

    def __len__(self) -> int:
        return len(self._listed)

    @property
    def paths(self) -> list[str]:
        """Their names below the table."""
        return self._listed.column("path").to_pylist()

    @cached_property
    def all(self) -> ds.FileSystemDataset:
        """All files, each with its statistics, for filters of any kind. See `scan` to read it."""
        return self._dataset(self._listed, self._spec.skipping_columns)

    def having(self, **values: str | int) -> ds.FileSystemDataset:
        """The files that can have rows with all these values, by column; all without any."""
        listed = self._listed
        for name, value in values.items():
            if name in self._spec.partition_by:
                listed = listed.filter(pc.equal(listed.column(f"partition.{name}"), value))
            elif f"min.{name}" in listed.column_names:
                low, high = listed.column(f"min.{name}"), listed.column(f"max.{name}")
                inside = pc.and_kleene(pc.less_equal(low, value), pc.greater_equal(high, value))
                # Without statistics nothing is known of a file.
                listed = listed.filter(pc.fill_null(inside, True))
        if len(listed) > _KEPT_FILES:
            return self._dataset(listed, ())
        return self._again(self._dataset(listed, ()))

    def _again(self, few: ds.FileSystemDataset) -> ds.FileSystemDataset:
        """The same files, each with its footer where that has been read before: of one with many
        row groups it takes longer to parse than the rows that are asked for."""
        fragments = [self._kept.get(one.path, one) for one in few.get_fragments()]
        self._kept.update((one.path, one) for one in fragments)
        while len(self._kept) > _KEPT_FILES:
            self._kept.pop(next(iter(self._kept)))
        return ds.FileSystemDataset(fragments, few.schema, few.format, self._filesystem)

    def _dataset(self, listed: pa.Table, known_by: tuple[str, ...]) -> ds.FileSystemDataset:
        kind = ds.ParquetFileFormat()
        paths, sizes = (listed.column(name).to_pylist() for name in ("path", "size_bytes"))
        fragments = [
            kind.make_fragment(path, self._filesystem, known, file_size=size)
            for path, size, known in zip(paths, sizes, self._facts(listed, known_by), strict=True)
        ]
        return ds.FileSystemDataset(fragments, plain(self._spec.name), kind, self._filesystem)

    def _facts(self, listed: pa.Table, known_by: tuple[str, ...]) -> list[pc.Expression]:
        """What is true of every row of each file: its partition, its least and largest values."""
        parts: list[list[pc.Expression]] = [[] for _ in range(len(listed))]
        for name in self._spec.partition_by:
            fact = {v: pc.field(name) == v for v in listed.column(f"partition.{name}").unique()}
            for part, value in zip(parts, listed.column(f"partition.{name}"), strict=True):
                part.append(fact[value])
        for name in known_by:
            if f"min.{name}" not in listed.column_names:
                continue
            field, no_value = pc.field(name), pc.field(name).is_null()
            columns = (listed.column(f"{what}.{name}") for what in ("min", "max", "null_count"))
            for part, low, high, nulls in zip(parts, *columns, strict=True):
                if low.is_valid and high.is_valid and nulls.is_valid:
                    fact = (field >= low) & (field <= high)
                    part.append(fact if nulls.as_py() == 0 else fact | no_value)
        return [reduce(and_, part) if part else pc.scalar(True) for part in parts]
