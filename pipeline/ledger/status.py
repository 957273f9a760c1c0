"""What an output holds, counted without reading its rows where the log knows already."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ledger.catchup import read_lag
from pipeline.ledger.damage import damage_is_said
from pipeline.ledger.delta import newest_analyses
from pipeline.ledger.history import open_store
from pipeline.ledger.reader import Ledger
from pipeline.ledger.schema import TABLES
from pipeline.ledger.store import Store


@dataclass(frozen=True)
class AnalysisStatus:
    """How far one analysis has come."""

    name: str
    fingerprint: str
    table: str
    current: bool
    """The newest of its name."""
    created_at: str
    identity: dict[str, object] = field(hash=False, repr=False)
    videos: int = 0
    """Videos of which any shard has landed."""
    shards: int = 0
    frames: int = 0
    """Sampled frames of the shards that have landed."""
    rows: int = 0


@dataclass(frozen=True)
class OutputStatus:
    videos: dict[str, int]
    """Current videos by status: ok, partial, failed."""
    analyses: list[AnalysisStatus]
    failures: int
    rows: dict[str, int]
    """Rows per table, superseded ones among them."""
    files: int
    size_bytes: int
    """Parquet files of the tables as they are now, without what vacuum would remove."""


def status(output: str, as_of: str | datetime.datetime | None = None) -> OutputStatus:
    """Count what `output` holds, or held (see `Ledger`).

    Raises UsageError where it is no output, or a damaged one.
    """
    ledger = Ledger(output, as_of)
    store = open_store(output, as_of)
    with damage_is_said(store):
        return _status(ledger, store)


def _status(ledger: Ledger, store: Store) -> OutputStatus:
    videos: dict[str, int] = {}
    for state in ledger.videos().column("status").to_pylist():
        videos[state] = videos.get(state, 0) + 1
    rows: dict[str, int] = {}
    files = size_bytes = 0
    for table in TABLES:
        actions = pa.table(store.open(table).get_add_actions())
        rows[table] = pc.sum(actions.column("num_records")).as_py() or 0
        files += len(actions)
        size_bytes += pc.sum(actions.column("size_bytes")).as_py() or 0
    return OutputStatus(
        videos=videos,
        analyses=_analyses(ledger, store),
        failures=rows["failures"],
        rows=rows,
        files=files,
        size_bytes=size_bytes,
    )


def _analyses(ledger: Ledger, store: Store) -> list[AnalysisStatus]:
    known = ledger.analyses()
    newest = {a.fingerprint for a in newest_analyses(known).values()}
    shards = pa.concat_tables([ledger.table("shards", current=False), read_lag(store).rows])
    figures = shards.group_by("analysis").aggregate(
        [("video_id", "count_distinct"), ("shard_id", "count"), ("frames", "sum"), ("rows", "sum")]
    )
    by_print = {row["analysis"]: row for row in figures.to_pylist()}
    found = []
    for analysis in known:
        row = by_print.get(analysis.fingerprint, {})
        found.append(
            AnalysisStatus(
                name=analysis.name,
                fingerprint=analysis.fingerprint,
                table=analysis.table,
                current=analysis.fingerprint in newest,
                created_at=analysis.created_at,
                identity=analysis.identity,
                videos=row.get("video_id_count_distinct", 0),
                shards=row.get("shard_id_count", 0),
                frames=row.get("frames_sum", 0),
                rows=row.get("rows_sum", 0),
            )
        )
    return found
