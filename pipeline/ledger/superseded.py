"""Removing what nobody reads any more: superseded analyses, and contents that no file has.

Once rows and their `shards` are gone, a writer that brings the same shards again is let in: what
landed before it began, it knows from `shards` alone (see `delta.Appender`).

    analysis    marked as leaving (runs refuse it), rows, shards, failures, videos, forgotten
    content     shards, rows, failures, indexes, videos

Cut anywhere, the same call goes on where the last one ended: the mark and the rows of `videos`
that tell of a content go last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from pipeline.errors import RunAborted
from pipeline.ledger.analyses import (
    ANALYSIS_KEY,
    RecordedAnalysis,
    analyses_in,
    based_on,
    newest_analyses,
    read_analyses,
)
from pipeline.ledger.books import latest_rows
from pipeline.ledger.catchup import catch_up, covering
from pipeline.ledger.keys import keys_of
from pipeline.ledger.parts import Part, parts_of
from pipeline.ledger.retention import analyses_since, contents_since
from pipeline.ledger.rewrite import TRIES, Swap, change_rows
from pipeline.ledger.scan import read_table
from pipeline.ledger.schema import DATA_TABLES
from pipeline.ledger.store import Store

_CONTENT_ORDER = ("shards", *reversed(DATA_TABLES), "failures", "indexes", "videos")


@dataclass(frozen=True)
class Superseded:
    """What could go."""

    analyses: tuple[RecordedAnalysis, ...]
    contents: tuple[str, ...]
    """video_ids."""


def find_superseded(store: Store, keep_s: float = 0.0) -> Superseded:
    """Analyses that no newest one needs, and contents of which every file has another one now.

    A file that could not be read the last time keeps its content: it may come back.

    Args:
        keep_s: leave out what has been superseded for less than so many seconds.
    """
    before = time.time() - keep_s
    known = read_analyses(store)
    newest = newest_analyses(known).values()
    kept = {a.fingerprint for a in newest}.union(*(based_on(a) for a in newest))
    since = analyses_since(known)
    old = tuple(
        a
        for a in known
        # One that is leaving has lost rows already.
        if a.leaving
        or (a.fingerprint not in kept and (not keep_s or since[a.fingerprint] <= before))
    )
    return Superseded(old, tuple(_old_contents(store, before if keep_s else None)))


def _old_contents(store: Store, before: float | None) -> list[str]:
    columns = ["uri", "video_id", "recorded_at"]
    rows = read_table(store.dataset("videos", store.open("videos")), columns)
    newest = latest_rows(keys_of(rows.column("uri")), rows.column("recorded_at"))
    now = rows.take(pa.array(newest))
    ids = rows.column("video_id")
    unread = now.filter(now.column("video_id").is_null()).column("uri")
    kept = rows.filter(pc.is_in(rows.column("uri"), unread)).column("video_id")
    stay = pa.chunked_array([*now.column("video_id").chunks, *kept.chunks], pa.string()).unique()
    old = sorted(ids.filter(pc.invert(pc.is_in(ids, stay))).drop_null().unique().to_pylist())
    if before is None:
        return old
    since = contents_since(rows, old)
    return [video_id for video_id in old if since[video_id] <= before]


# -- analyses ------------------------------------------------------------------------------


def analysis_parts(store: Store, analysis: RecordedAnalysis) -> dict[str, list[Part]]:
    """The files, per table, that hold nothing but rows of the analysis."""
    mine = (("analysis", analysis.fingerprint),)
    return {
        table: [part for part in parts_of(store.open(table)) if part.partition == mine]
        for table in (analysis.table, "shards")
    }


def drop_analysis(
    store: Store, analysis: RecordedAnalysis, still: Callable[[], bool] = lambda: True
) -> bool:
    """Remove an analysis from all tables. No run may be writing.

    `still` is asked once the analysis is marked, which keeps runs out that begin from then on: it
    says whether none has begun just before. Returns False where one has, or wants the analysis.
    """
    if not analysis.leaving and not mark_leaving(store, analysis):
        return False
    if not still():
        mark_leaving(store, replace(analysis, leaving=True), leaving=False)
        return False
    catch_up(store)
    for table in (analysis.table, "shards"):
        _remove_partition(store, analysis, table, covering(store) if table == "shards" else None)
    fingerprint = analysis.fingerprint
    of_failures = pc.field("analysis") == fingerprint
    change_rows(
        store, "failures", of_failures, lambda rows: _without(rows, "analysis", [fingerprint])
    )
    # Lists cannot be filtered on: every file of `videos` is looked at.
    change_rows(store, "videos", None, lambda rows: _unnamed(rows, fingerprint))
    _forget(store, analysis)
    return True


def mark_leaving(store: Store, analysis: RecordedAnalysis, leaving: bool = True) -> bool:
    """Say that an analysis' rows are about to be removed, or are not after all.

    Returns False where the analysis is not as it was given: a run wants it again. Raises
    CommitFailedError where another writer changes the table's properties meanwhile.
    """
    snapshot = store.open(analysis.table)
    if analysis not in analyses_in([snapshot]):
        return False
    _set(store, analysis.table, snapshot, analysis.as_property(leaving=leaving))
    return True


def _forget(store: Store, analysis: RecordedAnalysis) -> None:
    """The last step of removing an analysis: the output does not know it any more."""
    key = ANALYSIS_KEY + analysis.fingerprint
    _set(store, analysis.table, store.open(analysis.table), {key: ""})


def _set(store: Store, table: str, snapshot: DeltaTable, properties: dict[str, str]) -> None:
    try:
        snapshot.alter.set_table_properties(properties, raise_if_not_exists=False)
    except CommitFailedError:
        # It may have been made, and the answer lost.
        there = store.open(table).metadata().configuration
        if any(there.get(key, "") != text for key, text in properties.items()):
            raise


def _remove_partition(store: Store, analysis: RecordedAnalysis, table: str, note: object) -> None:
    for _ in range(TRIES):
        parts = analysis_parts(store, analysis)[table]
        if not parts or Swap(store, table, parts).commit(data_change=True, note=note):
            return
    raise RunAborted(f"output {store.root}: table {table} is rewritten by others all the time")


def _unnamed(rows: pa.Table, fingerprint: str) -> pa.Table:
    at = rows.schema.get_field_index("analyses")
    lists = [
        None if names is None else [name for name in names if name != fingerprint]
        for names in rows.column("analyses").to_pylist()
    ]
    return rows.set_column(at, rows.schema.field(at), pa.array(lists, rows.schema.field(at).type))


# -- contents ------------------------------------------------------------------------------


def count_contents(store: Store, contents: Iterable[str]) -> dict[str, int]:
    """Rows per table that speak of the contents."""
    wanted = pc.field("video_id").isin(pa.array(contents, pa.string()))
    counts = {}
    for table in _CONTENT_ORDER:
        dataset = store.dataset(table, store.open(table))
        counts[table] = read_table(dataset, ["video_id"], wanted).num_rows
    return {table: count for table, count in counts.items() if count}


def drop_contents(store: Store, contents: Iterable[str]) -> None:
    """Remove all rows of the contents. No run may be writing."""
    ids = list(contents)
    if not ids:
        return
    catch_up(store)
    wanted = pc.field("video_id").isin(pa.array(ids, pa.string()))
    for table in _CONTENT_ORDER:
        covers = covering(store) if table == "shards" else None
        change_rows(store, table, wanted, lambda rows: _without(rows, "video_id", ids), covers)


def _without(rows: pa.Table, column: str, values: list[str]) -> pa.Table:
    gone = pc.is_in(rows.column(column), pa.array(values, pa.string()))
    return rows.filter(pc.invert(gone))
