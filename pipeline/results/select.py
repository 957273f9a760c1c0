"""Rows of one table by video, frames, time, class and score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import UsageError
from pipeline.ledger.schema import TABLES
from pipeline.results.where import Where, every, video_ids

if TYPE_CHECKING:
    from pipeline.ledger.reader import Ledger


def select(
    ledger: Ledger,
    name: str,
    where: Where | None = None,
    columns: Sequence[str] | None = None,
    analysis: str | None = None,
) -> pa.Table:
    """Rows of a table that match, in the table's order. Raises UsageError where the table has no
    such column as `where` asks about."""
    where = where or Where()
    ids = video_ids(ledger, where.video)
    parts = [where.of_frames(), where.of_boxes()]
    if ids is not None:
        parts.append(pc.field("video_id").isin(pa.array(ids, pa.string())))
    rows = ledger.view(name, analysis=analysis, superseded=ids is not None)
    _check(ledger, name, where, rows.dataset.schema.names)
    rows = rows.also(every([part for part in parts if part is not None]))
    order = [(column, "ascending") for column in TABLES[name].sort_by]
    wanted = list(columns) if columns is not None else rows.dataset.schema.names
    extra = [column for column, _ in order if column not in wanted]
    return rows.table([*wanted, *extra]).sort_by(order).select(wanted)


def _check(ledger: Ledger, name: str, where: Where, there: list[str]) -> None:
    asked = {
        "video": (where.video, "video_id"),
        "frames": (where.frames, "frame_index"),
        "seconds": (where.seconds, "pts_s"),
        "classes": (where.classes, "class_name"),
        "min_score": (where.min_score, "score"),
    }
    for what, (value, column) in asked.items():
        if value not in (None, ()) and column not in there:
            raise UsageError(f"{ledger.output}: table {name} cannot be asked for {what}")
