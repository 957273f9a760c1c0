"""What an output holds, counted without reading its rows where the log knows already."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ledger.analyses import newest_analyses
from pipeline.ledger.books import CurrentVideos
from pipeline.ledger.catchup import find_lag
from pipeline.ledger.damage import damage_is_said
from pipeline.ledger.history import open_store
from pipeline.ledger.keys import SortedKeys, keys_of, order_of
from pipeline.ledger.reader import Ledger
from pipeline.ledger.scan import read_batches
from pipeline.ledger.schema import DATA_TABLES, TABLES
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
    rows: dict[str, int] = {}
    files = size_bytes = 0
    for table in TABLES:
        actions = pa.table(store.open(table).get_add_actions())
        rows[table] = pc.sum(actions.column("num_records")).as_py() or 0
        files += len(actions)
        size_bytes += pc.sum(actions.column("size_bytes")).as_py() or 0
    return OutputStatus(
        videos=CurrentVideos(store, store.open("videos")).counts(),
        analyses=_analyses(ledger, store),
        failures=rows["failures"],
        rows=rows,
        files=files,
        size_bytes=size_bytes,
    )


def _analyses(ledger: Ledger, store: Store) -> list[AnalysisStatus]:
    known = ledger.analyses()
    newest = {a.fingerprint for a in newest_analyses(known).values()}
    figures = _landed(store)
    found = []
    for analysis in known:
        videos, shards, frames, rows = figures.get(analysis.fingerprint, (0, 0, 0, 0))
        found.append(
            AnalysisStatus(
                name=analysis.name,
                fingerprint=analysis.fingerprint,
                table=analysis.table,
                current=analysis.fingerprint in newest,
                created_at=analysis.created_at,
                identity=analysis.identity,
                videos=videos,
                shards=shards,
                frames=frames,
                rows=rows,
            )
        )
    return found


def _landed(store: Store) -> dict[str, tuple[int, int, int, int]]:
    """(videos, shards, frames, rows) that have landed per fingerprint, what `shards` lacks of it
    included; 16 bytes a shard are held."""
    snapshots = {name: store.open(name) for name in ("shards", *DATA_TABLES)}
    columns = ["analysis", "video_id", "frames", "rows"]
    batches = read_batches(store.files("shards", snapshots["shards"]).having(), columns)
    lag = find_lag(store, snapshots).rows.select(columns).to_batches()
    keys: dict[str, list[np.ndarray]] = {}
    sums: dict[str, list[int]] = {}
    for batch in chain(batches, lag):
        for fingerprint in batch.column("analysis").unique().to_pylist():
            mine = batch.filter(pc.equal(batch.column("analysis"), fingerprint))
            keys.setdefault(fingerprint, []).append(keys_of(mine.column("video_id")))
            known = sums.setdefault(fingerprint, [0, 0])
            for place, name in enumerate(("frames", "rows")):
                known[place] += pc.sum(mine.column(name)).as_py()
    found = {}
    for fingerprint, parts in keys.items():
        every = np.concatenate(parts)
        videos = len(SortedKeys(every[order_of(every)]).starts())
        frames, rows = sums[fingerprint]
        found[fingerprint] = videos, len(every), frames, rows
    return found
