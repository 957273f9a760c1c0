"""The few rows of a table that have given values, for which as little is read as possible.

    files         by the log's statistics                            (files.Files.rows)
    footers       kept, since a file never changes
    row groups    by their statistics
    rows          the columns asked about; of row groups that have any, all columns (of one row
                  group alone: all columns at once)

Arrow's datasets skip the same, but to set up and end a scan takes them longer than to read one
row group of each table, which is what a frame costs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    import pyarrow.fs as pa_fs

KEPT_BYTES = 8 * 2**20
"""Of footers as they lie in the files of a table; parsed they take several times that."""
_ONE_BY_ONE = 4
"""Files up to which they are read one after another: threads pay where a store is far away."""
_FILES_AT_ONCE = 16


@dataclass(frozen=True)
class Footer:
    """What the end of a Parquet file says, and what that comes to for the columns asked about."""

    metadata: pq.FileMetaData
    _bounds: dict[str, tuple[pa.Array, pa.Array]] = field(default_factory=dict)

    def groups(self, values: Mapping[str, str | int]) -> list[int]:
        """The row groups that can have rows with all these values."""
        found = np.ones(self.metadata.num_row_groups, bool)
        for column, value in values.items():
            if column not in self._bounds:
                kind = pa.string() if isinstance(value, str) else pa.int64()
                self._bounds[column] = self._bounds_of(column, kind)
            found &= may_have(*self._bounds[column], value).to_numpy(zero_copy_only=False)
        places: list[int] = np.flatnonzero(found).tolist()
        return places

    def _bounds_of(self, column: str, kind: pa.DataType) -> tuple[pa.Array, pa.Array]:
        """The least and the largest value of each row group, null where the file does not say."""
        parts = self.metadata.schema
        paths = [parts.column(number).path for number in range(len(parts))]
        number = paths.index(column)
        groups = range(self.metadata.num_row_groups)
        known = [self.metadata.row_group(group).column(number).statistics for group in groups]
        pairs = [(s.min, s.max) if s is not None and s.has_min_max else (None, None) for s in known]
        return pa.array([pair[0] for pair in pairs], kind), pa.array([p[1] for p in pairs], kind)


class Footers:
    """The footers of a table's files that were looked into last. May be used by several threads."""

    def __init__(self) -> None:
        self._kept: dict[str, Footer] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def of(self, path: str, source: pa.NativeFile) -> Footer:
        """That of a file, which `source` reads where it is not known."""
        with self._lock:
            footer = self._kept.pop(path, None)
            if footer is not None:
                self._kept[path] = footer  # The last in order is the last to go.
                return footer
        footer = Footer(pq.read_metadata(source))
        with self._lock:
            if path not in self._kept:
                self._bytes += footer.metadata.serialized_size
            self._kept[path] = footer
            while self._bytes > KEPT_BYTES and len(self._kept) > 1:
                oldest = self._kept.pop(next(iter(self._kept)))
                self._bytes -= oldest.metadata.serialized_size
        return footer


def may_have(low: pa.Array, high: pa.Array, value: str | int) -> pa.Array:
    """bool (n,): where a value may lie between the least and the largest; also where those are not
    known, for then nothing is."""
    inside = pc.and_kleene(pc.less_equal(low, value), pc.greater_equal(high, value))
    return pc.fill_null(inside, True)


def find_rows(
    filesystem: pa_fs.FileSystem,
    footers: Footers,
    files: Sequence[tuple[str, dict[str, str]]],
    values: Mapping[str, str | int],
    schema: pa.Schema,
) -> pa.Table:
    """All rows with these values.

    Args:
        files: path and partition of each file that may have some.
        values: by column; none of the partition.
        schema: of what is returned.
    """

    def rows_of(file: tuple[str, dict[str, str]]) -> list[pa.Table]:
        path, partition = file
        with filesystem.open_input_file(path) as source:
            footer = footers.of(path, source)
            alone = len(files) == 1
            return list(_rows(source, footer, partition, values, schema, alone=alone))

    if len(files) <= _ONE_BY_ONE:
        found = [rows_of(file) for file in files]
    else:
        with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
            found = list(pool.map(rows_of, files))
    return pa.concat_tables([schema.empty_table(), *(rows for some in found for rows in some)])


def _rows(
    source: pa.NativeFile,
    footer: Footer,
    partition: dict[str, str],
    values: Mapping[str, str | int],
    schema: pa.Schema,
    *,
    alone: bool,
) -> Iterator[pa.Table]:
    groups = footer.groups(values)
    if not groups:
        return
    # Column by column each would be a request of its own to a store.
    file = pq.ParquetFile(source, metadata=footer.metadata, pre_buffer=True)
    # The one row group that can have them nearly always has: nothing is saved by a look first.
    first = None if alone and len(groups) == 1 else list(values)
    for group in groups:
        asked = file.read_row_group(group, columns=first, use_threads=False)
        there = None
        for column, value in values.items():
            # Files that delta-rs has rewritten have types that Arrow does not compare.
            same = pc.equal(asked.column(column).cast(schema.field(column).type), value)
            there = same if there is None else pc.and_(there, same)
        at = pc.indices_nonzero(there)
        if len(at):
            rows = asked if first is None else file.read_row_group(group, use_threads=False)
            # Nor does it take rows of them.
            yield _as(schema, rows, partition).take(at)


def _as(schema: pa.Schema, rows: pa.Table, partition: dict[str, str]) -> pa.Table:
    """Rows of a file with all columns of their table."""
    columns = []
    for wanted in schema:
        if wanted.name in rows.schema.names:
            columns.append(rows.column(wanted.name).cast(wanted.type))
        else:
            # Of the partition, or one that the table did not have when the file was written.
            value = pa.scalar(partition.get(wanted.name), wanted.type)
            columns.append(pa.chunked_array([pa.repeat(value, len(rows))]))
    return pa.table(columns, schema=schema)
