"""The rows of a table that were recorded last, without reading those from long before."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ledger.files import Files
from pipeline.ledger.scan import read_batches

_TIME = "recorded_at"


def read_latest(files: Files, rows: int, columns: Sequence[str]) -> pa.Table:
    """The `rows` rows that were recorded last, the latest first; of equal times by the other
    columns, so that more of them begin with the same ones.

    What is held at once is those rows and a batch. Read are files with rows as late as these.
    """
    names = [_TIME, *(name for name in columns if name != _TIME)]
    order = [(name, "descending" if name == _TIME else "ascending") for name in names]
    floor = files.floor(_TIME, rows)
    wanted = pc.field(_TIME) >= floor if floor is not None else None
    best: pa.Table | None = None
    for batch in read_batches(files.all, names, wanted):
        some = pa.Table.from_batches([batch])
        both = some if best is None else pa.concat_tables([best, some])
        best = both.sort_by(order).slice(0, rows).combine_chunks()
    if best is None:
        best = files.all.schema.empty_table().select(names)
    return best.select(list(columns))
