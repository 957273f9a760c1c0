"""The files of a table as its log lists them, and which of them can hold what is asked for.

deltalake can make a dataset of a snapshot too, but takes 1 to 2 ms a file for it, and all files
before the first is skipped. Here the log's statistics stay columns, 30 us a file: to find a
video, two comparisons over all files leave a few, and only those become fragments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, reduce
from operator import and_
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipeline.ledger.lookup import Footers, find_rows, may_have
from pipeline.ledger.schema import TABLES, plain

if TYPE_CHECKING:
    import pyarrow.fs as pa_fs
    from deltalake import DeltaTable


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
        listed = pa.table(snapshot.get_add_actions(flatten=True)).combine_chunks()
        self._listed = _largest_times_up(listed)
        self._footers: Footers = before._footers if before is not None else Footers()

    def __len__(self) -> int:
        return len(self._listed)

    @property
    def paths(self) -> list[str]:
        """Their names below the table."""
        return self._listed.column("path").to_pylist()

    @property
    def row_count(self) -> int:
        """Rows of all files together."""
        return int(pc.sum(self._listed.column("num_records")).as_py() or 0)

    def floor(self, column: str, rows: int) -> pa.Scalar | None:
        """The largest value known that at least so many rows are not below; None: none is known."""
        if f"min.{column}" not in self._listed.column_names:
            return None
        listed = self._listed.select(["num_records", f"min.{column}"]).drop_null()
        listed = listed.sort_by([(f"min.{column}", "descending")])
        held = pc.cumulative_sum(listed.column("num_records"))
        enough = pc.indices_nonzero(pc.greater_equal(held, rows))
        return listed.column(f"min.{column}")[enough[0].as_py()] if len(enough) else None

    @cached_property
    def all(self) -> ds.FileSystemDataset:
        """All files, each with its statistics, for filters of any kind. See `scan` to read it."""
        return self._dataset(self._listed, self._spec.skipping_columns)

    def having(self, **values: str | int) -> ds.FileSystemDataset:
        """The files that can have rows with all these values, by column; all without any."""
        return self._dataset(self._listed_with(values), ())

    def known(self, **values: str | int) -> ds.FileSystemDataset:
        """As `having`, each file with its statistics, for filters on more than that."""
        return self._dataset(self._listed_with(values), self._spec.skipping_columns)

    def rows(self, partitions: Sequence[str] | None = None, **values: str | int) -> pa.Table:
        """All rows with these values, by column, of some partitions (None: all of them)."""
        listed = self._listed_with(values)
        (name,) = self._spec.partition_by or ("",)
        if partitions is not None:
            mine = pa.array(partitions, pa.string())
            listed = listed.filter(pc.is_in(listed.column(f"partition.{name}"), mine))
        paths = listed.column("path").to_pylist()
        of = listed.column(f"partition.{name}").to_pylist() if name else [None] * len(paths)
        files = [(path, {name: value}) for path, value in zip(paths, of, strict=True)]
        return find_rows(self._filesystem, self._footers, files, values, plain(self._spec.name))

    def _listed_with(self, values: Mapping[str, str | int]) -> pa.Table:
        listed = self._listed
        for name, value in values.items():
            if name in self._spec.partition_by:
                listed = listed.filter(pc.equal(listed.column(f"partition.{name}"), value))
            elif f"min.{name}" in listed.column_names:
                low, high = listed.column(f"min.{name}"), listed.column(f"max.{name}")
                listed = listed.filter(may_have(low, high, value))
        return listed

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


def _largest_times_up(listed: pa.Table) -> pa.Table:
    """Largest values that are bounds again: delta-rs cuts times of the log to milliseconds, which
    leaves the least ones true, and the largest ones too small."""
    for at, column in enumerate(listed.schema):
        if column.name.startswith("max.") and pa.types.is_timestamp(column.type):
            up = pc.add(listed.column(at), pa.scalar(999, pa.duration("us")))
            listed = listed.set_column(at, column, up.cast(column.type))
    return listed
