"""Writers that overlap: `shards` is whole, and says so, whatever the order of their commits."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from pipeline.ledger.books import Books
from pipeline.ledger.catchup import catch_up, read_lag
from pipeline.ledger.commit import LedgerWriter
from pipeline.ledger.reader import Ledger
from pipeline.ledger.schema import DATA_TABLES
from pipeline.ledger.store import Store
from pipeline.ledger.verify import verify
from tests.ledger.corpus import (
    ALL,
    EMBEDDER,
    feed,
    make_index,
    make_tasks,
    open_writer,
    video_id,
)

SHARDS = len(make_tasks("a"))
STEPS = 8
READ_WHERE_NOTHING_LACKS = ["shards"]
"""Tables of the log entries that catching up reads: the newest of `shards` says it all."""


@pytest.fixture
def read(monkeypatch) -> list[tuple[str, int]]:
    """(table, version) of every log entry that is read."""
    found: list[tuple[str, int]] = []
    original = Store.log_entry

    def noting(self: Store, table: str, version: int) -> bytes | None:
        found.append((table, version))
        return original(self, table, version)

    monkeypatch.setattr(Store, "log_entry", noting)
    return found


def flushing(writer: LedgerWriter, name: str, analyses=ALL) -> Iterator[str]:  # type: ignore[no-untyped-def]
    """A flush for each shard of a video, cut wherever the caller leaves it."""
    writer.add_index(make_index(name))
    for task in make_tasks(name, analyses=analyses):
        feed(writer, task)
        for table, step in writer.steps():
            step()
            yield table


def assert_whole(output: str, names: tuple[str, ...]) -> None:
    assert [str(finding) for finding in verify(output).findings] == []
    ledger, books = Ledger(output), Books(output)
    for name in names:
        assert all(books.video_done(video_id(name), analysis.fingerprint) for analysis in ALL)
    assert ledger.table("frames").num_rows == ledger.table("embeddings").num_rows == 25 * len(names)
    shards = ledger.table("shards").column("shard_id")
    assert len(shards) == len(shards.unique()) == len(ALL) * SHARDS * len(names)


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_left_to_catch_up_with_after_writers_that_overlapped(
    tmp_path, read: list[tuple[str, int]], seed: int
) -> None:
    output, names = str(tmp_path / "o"), ("a", "b")
    going = [flushing(open_writer(output, name), name) for name in names]
    order = random.Random(seed)
    while going:
        one = order.choice(going)
        if next(one, None) is None:
            going.remove(one)
    read.clear()
    assert catch_up(output).rows.num_rows == 0
    assert [table for table, _ in read] == READ_WHERE_NOTHING_LACKS
    assert_whole(output, names)


@pytest.mark.parametrize("steps", range(STEPS + 1, 2 * STEPS + 2))
def test_a_writer_that_dies_within_a_flush_leaves_nothing_to_those_after(
    tmp_path, read: list[tuple[str, int]], steps: int
) -> None:
    output = str(tmp_path / "o")
    dead, alive = open_writer(output, "dead"), open_writer(output, "alive")
    for _, _ in zip(range(steps), flushing(dead, "a"), strict=False):
        pass
    assert len(list(flushing(alive, "b"))) == SHARDS * STEPS
    read.clear()
    assert read_lag(Store(output)).rows.num_rows == 0
    assert [table for table, _ in read] == READ_WHERE_NOTHING_LACKS
    with open_writer(output, "last") as writer:
        for name in ("a", "b"):
            writer.add_index(make_index(name))
            for task in make_tasks(name):
                feed(writer, task)
    assert_whole(output, ("a", "b"))


def test_a_writer_of_one_table_does_not_take_back_what_another_covers(
    tmp_path, read: list[tuple[str, int]]
) -> None:
    output = str(tmp_path / "o")
    every, some = open_writer(output, "every"), open_writer(output, "some")
    list(flushing(every, "a"))
    list(flushing(some, "b", (EMBEDDER,)))
    read.clear()
    assert catch_up(output).rows.num_rows == 0
    assert [table for table, _ in read] == READ_WHERE_NOTHING_LACKS
    list(flushing(every, "b", tuple(a for a in ALL if a is not EMBEDDER)))
    assert_whole(output, ("a", "b"))


def test_a_flush_reads_no_commit_of_another_writer_that_is_covered(
    tmp_path, read: list[tuple[str, int]]
) -> None:
    """One that had nothing to write for long does not bring in all that has landed since."""
    output = str(tmp_path / "o")
    idle, busy = open_writer(output, "idle"), open_writer(output, "busy")
    for name in ("b", "c"):
        list(flushing(busy, name))
    before = Store(output).open("frames").version()
    first = flushing(idle, "a")
    for table in first:
        if table == DATA_TABLES[-1]:
            break
    read.clear()
    assert next(first) == "shards"
    of_frames = {version for table, version in read if table == "frames"}
    assert of_frames == {before + 1}
