"""Outputs to clean up, and what is in them."""

from __future__ import annotations

import json
import time
from dataclasses import replace

from pipeline.ledger.books import Books
from pipeline.ledger.commit import LedgerWriter
from pipeline.ledger.on_disk import Unnamed, unnamed_files
from pipeline.ledger.schema import TABLES
from pipeline.ledger.store import Store
from pipeline.records import Analysis, VideoOutcome
from tests.ledger.corpus import (
    FRAMES,
    feed,
    make_index,
    make_tasks,
    open_writer,
    source_of,
    write_video,
)

NEWER = Analysis("embedder", "embeddings", {"model": "c", "frames": FRAMES.fingerprint})
LOST = {"v1": frozenset({6})}
VIDEOS = ("v0", "v1", "v2", "v3")


def many_commits(output: str, videos: tuple[str, ...] = VIDEOS) -> None:
    for number, name in enumerate(videos):
        with open_writer(output, f"run-{number}") as writer:
            write_video(writer, name, lost=LOST.get(name, frozenset()))


def redo(output: str, names: list[str], analyses: tuple[Analysis, ...]) -> int:
    """What a run does with the videos: what the books lack. Returns the shards that it wrote."""
    books, written = Books(output), 0
    known = {analysis.fingerprint: analysis for analysis in analyses}
    with LedgerWriter(output, f"redo-{time.monotonic_ns()}", known) as writer:
        for name in names:
            index = make_index(name)
            writer.add_index(index)
            for task in make_tasks(name, analyses=analyses):
                done = {f: books.landed(index.video_id, f) for f in task.analyses}
                due = tuple(f for f in done if task.shard.shard_index not in done[f])
                if due:
                    written += 1
                    feed(writer, replace(task, analyses=due), lost=LOST.get(name, frozenset()))
            status = "partial" if name in LOST else "ok"
            writer.add_video(VideoOutcome(source_of(name), index, status))
    return written


def rows_of(output: str, without: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """Every row of every table, in an order of its own."""
    store = Store(output)
    found = {}
    for name in TABLES:
        rows = (
            store.dataset(name, store.open(name))
            .to_table()
            .drop_columns([column for column in without if column in TABLES[name].schema.names])
        )
        found[name] = sorted(json.dumps(row, default=str) for row in rows.to_pylist())
    return found


def unnamed(output: str, table: str) -> Unnamed:
    return unnamed_files(Store(output), table, Store(output).open(table))
