"""Shards with quarantined clips, taken back so that they can be tried again as a whole.

A shard that has landed is never written a second time; here its rows go first, and `shards`, by
which it is known to have landed, goes last. What is to go is written down before anything does:

    OUTPUT/_reopen.json    found by the next run, where this one was cut short, which goes on
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import RunAborted
from pipeline.ledger.analyses import read_analyses
from pipeline.ledger.catchup import catch_up, note_covers
from pipeline.ledger.leases import live_runs
from pipeline.ledger.rewrite import change_rows
from pipeline.ledger.scan import read_table
from pipeline.ledger.schema import DATA_TABLES
from pipeline.ledger.store import Store

FILE = "_reopen.json"


@dataclass(frozen=True)
class Reopening:
    """What is to go."""

    analyses: tuple[str, ...]
    """A frames analysis and all that look at its frames."""
    shards: tuple[tuple[str, int, int], ...]
    """(video_id, first frame, last frame), inclusive."""


def find_reopening(
    store: Store, frames: str, lost: dict[str, set[tuple[int, int]]]
) -> Reopening | None:
    """The shards that hold the `lost` ranges of frames, by video_id; None where there are none.

    Args:
        frames: fingerprint of the frames analysis.
    """
    if not lost:
        return None
    mine = (pc.field("analysis") == frames) & pc.field("video_id").isin(list(lost))
    columns = ["video_id", "first_frame", "last_frame"]
    rows = read_table(store.dataset("shards", store.open("shards")), columns, mine).to_pylist()
    shards = {
        (row["video_id"], row["first_frame"], row["last_frame"])
        for row in rows
        if any(row["first_frame"] <= a <= row["last_frame"] for a, _ in lost[row["video_id"]])
    }
    linked = [a.fingerprint for a in read_analyses(store) if a.identity.get("frames") == frames]
    return Reopening((frames, *linked), tuple(sorted(shards))) if shards else None


def reopen(store: Store, what: Reopening, run_id: str) -> bool:
    """Take the shards back. False, and nothing done, where another run is going on: it may be
    writing what would be taken. `run_id` is this one's, whose lease is open."""
    if live_runs(store.root) - {run_id}:
        return False
    path = Path(store.root) / FILE
    text = json.dumps({"analyses": what.analyses, "shards": what.shards})
    try:
        new = path.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        os.replace(new, path)
    except OSError as error:
        raise RunAborted(f"{path}: cannot write: {error.strerror}") from error
    _take_back(store, what)
    path.unlink()
    return True


def finish_reopening(store: Store, run_id: str) -> None:
    """Go on where a run was cut short, if one was and no other than this is going on."""
    path = Path(store.root) / FILE
    with suppress(FileNotFoundError):
        said = json.loads(path.read_text(encoding="utf-8"))
        if not live_runs(store.root) - {run_id}:
            shards = tuple((video, first, last) for video, first, last in said["shards"])
            _take_back(store, Reopening(tuple(said["analyses"]), shards))
            path.unlink()


def _take_back(store: Store, what: Reopening) -> None:
    note = note_covers(catch_up(store).covers)
    for table in reversed(DATA_TABLES):
        _drop(store, table, _of(what, "frame_index"))
    whole = pc.field("shard_index").is_null() & pc.field("stage").isin(["decode", "analyze"])
    _drop(store, "failures", _within(what, "first_frame") & whole)
    _drop(store, "shards", _of(what, "first_frame"), note)


def _of(what: Reopening, column: str) -> pc.Expression:
    return pc.field("analysis").isin(list(what.analyses)) & _within(what, column)


def _within(what: Reopening, column: str) -> pc.Expression:
    """Rows whose frame, by `column`, lies in one of the shards."""
    at, video = pc.field(column), pc.field("video_id")
    parts = [(video == name) & (at >= a) & (at <= b) for name, a, b in what.shards]
    return reduce(or_, parts)


def _drop(store: Store, table: str, gone: pc.Expression, note: Any = None) -> None:
    def rest(rows: pa.Table) -> pa.Table:
        # Where the condition is not known, because a column is null, the row stays.
        keep = ~gone
        return rows.filter(keep | keep.is_null())

    change_rows(store, table, gone, rest, note)
