"""Reading rows of a table's files with a filter, whoever wrote the files.

Arrow skips files and row groups by their statistics. It cannot where delta-rs has rewritten a
file in a DELETE or UPDATE (not in a compaction): such files declare their strings as
`string_view`, for which Arrow lacks the comparisons, and the whole scan would end in an error.
Those files are read without skipping and filtered in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pa_fs


@dataclass(frozen=True)
class View:
    """Some rows of one version of a table, not yet read. Can be pickled."""

    dataset: ds.Dataset
    wanted: pc.Expression | None = None

    def also(self, wanted: pc.Expression | None) -> View:
        """Those of them that match `wanted` too."""
        if wanted is None:
            return self
        return View(self.dataset, wanted if self.wanted is None else self.wanted & wanted)

    def filterable(self) -> tuple[ds.Dataset, list[View]]:
        """The files that Arrow can filter on reading, and the rows of each of the others."""
        wanted = self.wanted if self.wanted is not None else pc.scalar(True)
        # Footers are kept once they are read; one after another they take long on a store.
        with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
            list(pool.map(_schema_of, self.dataset.get_fragments(filter=wanted)))
        plain, rewritten = _split(self.dataset, wanted)
        return plain, [View(file, self.wanted) for file in rewritten]

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """See `read_table`."""
        return read_table(self.dataset, columns, self.wanted)

    def batches(
        self, columns: Sequence[str] | None = None, batch_rows: int = 65536
    ) -> Iterator[pa.RecordBatch]:
        """See `read_batches`."""
        return read_batches(self.dataset, columns, self.wanted, batch_rows)


def read_table(
    dataset: ds.Dataset, columns: Sequence[str] | None = None, wanted: pc.Expression | None = None
) -> pa.Table:
    """Rows that match `wanted`, in no particular order, with the dataset's types."""
    names = list(columns) if columns is not None else dataset.schema.names
    plain, rewritten = _split(dataset, wanted)
    tables = [plain.to_table(columns=names, filter=wanted)]
    for file in rewritten:
        batches = list(_filtered(file, names, wanted, 65536))
        tables.append(pa.Table.from_batches(batches, tables[0].schema))
    return pa.concat_tables(tables) if len(tables) > 1 else tables[0]


def read_batches(
    dataset: ds.Dataset,
    columns: Sequence[str] | None = None,
    wanted: pc.Expression | None = None,
    batch_rows: int = 65536,
) -> Iterator[pa.RecordBatch]:
    """As `read_table`, in bounded memory: a few row groups of one file at a time."""
    names = list(columns) if columns is not None else dataset.schema.names
    plain, rewritten = _split(dataset, wanted)
    # Ahead of time a file is read as a whole, which on a store saves requests.
    whole = ds.ParquetFragmentScanOptions(pre_buffer=_is_remote(plain))
    yield from plain.to_batches(
        columns=names,
        filter=wanted,
        batch_size=batch_rows,
        batch_readahead=2,
        fragment_readahead=1,
        fragment_scan_options=whole,
    )
    for file in rewritten:
        yield from _filtered(file, names, wanted, batch_rows)


def _split(
    dataset: ds.Dataset, wanted: pc.Expression | None
) -> tuple[ds.Dataset, list[ds.Dataset]]:
    """The files that can be filtered on reading as one dataset, and each of the others."""
    if wanted is None or not isinstance(dataset, ds.FileSystemDataset):
        return dataset, []
    plain: list[ds.Fragment] = []
    rewritten: list[ds.Fragment] = []
    for fragment in dataset.get_fragments(filter=wanted):
        (rewritten if _has_views(fragment.physical_schema) else plain).append(fragment)
    return _of(dataset, plain), [_of(dataset, [fragment]) for fragment in rewritten]


def _is_remote(dataset: ds.Dataset) -> bool:
    files = getattr(dataset, "filesystem", None)
    return isinstance(files, pa_fs.PyFileSystem)


def _of(dataset: ds.Dataset, fragments: list[ds.Fragment]) -> ds.FileSystemDataset:
    """Some of the files of a dataset."""
    return ds.FileSystemDataset(fragments, dataset.schema, dataset.format, dataset.filesystem)


_FOOTERS_AT_ONCE = 16


def _schema_of(fragment: ds.Fragment) -> pa.Schema:
    return fragment.physical_schema


def _has_views(schema: pa.Schema) -> bool:
    return any(pa.types.is_string_view(field.type) for field in schema)


def _filtered(
    file: ds.Dataset, names: list[str], wanted: pc.Expression | None, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    for batch in file.to_batches(batch_size=batch_rows, batch_readahead=2, fragment_readahead=1):
        rows = pa.Table.from_batches([batch])
        rows = rows if wanted is None else rows.filter(wanted)
        yield from rows.select(names).to_batches()
