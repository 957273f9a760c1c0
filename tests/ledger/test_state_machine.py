"""The ledger under any order of writing, crashing, cleaning up and changing one's mind.

Hypothesis picks the steps. After each of them every frame is visible at most once in whatever
reads the tables, and only whole shards are; in the end a run that nobody disturbs makes of what
is left the tables that a run without faults would have made.

FRAMELEDGER_STATES=1000 tries so many sequences instead of a few (`make states`).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import duckdb
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipeline.errors import RunAborted
from pipeline.ledger.adopt import adopt
from pipeline.ledger.books import Books
from pipeline.ledger.commit import LedgerWriter
from pipeline.ledger.folder import folder_at
from pipeline.ledger.gc import gc
from pipeline.ledger.on_disk import sizes_of
from pipeline.ledger.parts import parts_of
from pipeline.ledger.reader import Ledger
from pipeline.ledger.schema import DATA_TABLES, TABLES
from pipeline.ledger.store import Store
from pipeline.ledger.verify import verify
from pipeline.records import Analysis, ShardTask, VideoOutcome
from tests.ledger.corpus import (
    DETECTOR,
    EMBEDDER,
    FRAMES,
    feed,
    make_index,
    make_tasks,
    source_of,
    video_id,
)

NEWER = Analysis("embedder", "embeddings", {"model": "c", "frames": FRAMES.fingerprint})
CONFIGS = ((FRAMES, DETECTOR, EMBEDDER), (FRAMES, DETECTOR, NEWER))
FRAME_COUNT = {"a": 40, "b": 20, "a2": 24}
LOST = {"b": frozenset({6})}
VIDEOS = ("a", "b")
ROW = {
    "frames": ("analysis", "video_id", "frame_index"),
    "embeddings": ("analysis", "video_id", "frame_index"),
    "detections": ("analysis", "video_id", "frame_index", "detection_index"),
    "shards": ("shard_id",),
    "indexes": ("video_id",),
}
STEPS = len(TABLES)
LONG = "FRAMELEDGER_STATES" in os.environ
SEQUENCES = int(os.environ.get("FRAMELEDGER_STATES", "6"))


class Crash(BaseException):
    """The process is gone."""


def tasks_of(content: str, analyses: tuple[Analysis, ...]) -> list[ShardTask]:
    return make_tasks(content, FRAME_COUNT[content], analyses)


def resume(output: str, analyses: tuple[Analysis, ...], contents: dict[str, str]) -> None:
    """What a run does that nobody disturbs: first it takes over what the dead have left."""
    adopt(output, ())
    books = Books(output)
    known = {analysis.fingerprint: analysis for analysis in analyses}
    with LedgerWriter(output, "last", known) as writer:
        for name, content in contents.items():
            index = make_index(content, FRAME_COUNT[content])
            writer.add_index(index)
            for task in tasks_of(content, analyses):
                give(writer, books, task, content)
            status = "partial" if content in LOST else "ok"
            outcome = VideoOutcome(source_of(name, f"{content}:1"), index, status)
            writer.add_video(outcome)


def give(writer: LedgerWriter, books: Books, task: ShardTask, content: str) -> None:
    number = task.shard.shard_index
    landed = {name: books.landed(task.index.video_id, name) for name in task.analyses}
    due = tuple(name for name in landed if number not in landed[name])
    if due:
        feed(writer, replace(task, analyses=due), lost=LOST.get(content, frozenset()))


def contents_of(output: str, contents: dict[str, str]) -> dict[str, list[str]]:
    """The current rows of every table as text, without what differs from run to run.

    Only those of `contents`: a file that was replaced before a run had said how it ended leaves
    rows that no row of `videos` tells to be superseded.
    """
    ledger, found = Ledger(output), {}
    ids = pc.field("video_id").isin([video_id(content) for content in contents.values()])
    for name in (*ROW, "failures", "videos"):
        rows = ledger.videos() if name == "videos" else ledger.table(name, filter=ids)
        varying = [c for c in ("run_id", "recorded_at") if c in rows.schema.names]
        lines = (json.dumps(row) for row in rows.drop_columns(varying).to_pylist())
        # What is lost may be told twice: a crash comes between it and the rows it explains.
        found[name] = sorted(set(lines) if name == "failures" else lines)
    return found


@cache
def undisturbed(config: int, contents: tuple[tuple[str, str], ...]) -> dict[str, list[str]]:
    with tempfile.TemporaryDirectory(prefix="fl-") as folder:
        resume(folder + "/o", CONFIGS[config], dict(contents))
        return contents_of(folder + "/o", dict(contents))


@contextmanager
def crashing_after(accesses: int) -> Iterator[None]:
    """The process is gone when it opens a table for so many times."""
    left, original = [accesses], Store.open

    def open_or_crash(self: Store, table: str) -> DeltaTable:
        left[0] -= 1
        if left[0] < 0:
            raise Crash
        return original(self, table)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "open", open_or_crash)
        yield


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = self.place()
        self.output = self.folder + "/o"
        self.config = 0
        self.contents = {"a": "a", "b": "b"}
        self.writers: list[LedgerWriter] = []
        self.runs = 0
        self.cut_short = False
        """A gc has been killed: rows that it was removing are neither there nor gone."""
        self.begin()

    def place(self) -> str:
        return tempfile.mkdtemp(prefix="fl-")

    # -- writing ----------------------------------------------------------------------

    @precondition(lambda self: len(self.writers) < 2)
    @rule()
    def begin(self) -> None:
        self.runs += 1
        analyses = {analysis.fingerprint: analysis for analysis in CONFIGS[self.config]}
        try:
            writer = LedgerWriter(self.output, f"run-{self.runs}", analyses)
        except RunAborted:
            assert self.cut_short  # what is being removed is refused until it is
            if self.writers:
                return
            self.clean(True)
            writer = LedgerWriter(self.output, f"run-{self.runs}", analyses)
        writer.config = self.config  # type: ignore[attr-defined]
        self.writers.append(writer)

    @precondition(lambda self: self.writers)
    @rule(which=st.integers(0, 1), name=st.sampled_from(VIDEOS), shard=st.integers(0, 2))
    def write(self, which: int, name: str, shard: int) -> None:
        writer = self.writers[which % len(self.writers)]
        content = self.contents[name]
        tasks = tasks_of(content, CONFIGS[writer.config])  # type: ignore[attr-defined]
        task = tasks[shard % len(tasks)]
        writer.add_index(task.index)
        # Without a look at the books: a shard may come again that has landed.
        feed(writer, task, lost=LOST.get(content, frozenset()))

    @precondition(lambda self: self.writers)
    @rule(which=st.integers(0, 1))
    def flush(self, which: int) -> None:
        self.writers[which % len(self.writers)].flush()

    @precondition(lambda self: len(self.writers) == 2)
    @rule(k=st.integers(0, STEPS))
    def flush_within_a_flush(self, k: int) -> None:
        first, second = self.writers
        for number, (_, step) in enumerate(first.steps()):
            if number == k:
                second.flush()
            step()

    @rule()
    def another_model(self) -> None:
        self.config = 1 - self.config

    @rule()
    def another_content(self) -> None:
        self.contents["a"] = "a2" if self.contents["a"] == "a" else "a"

    # -- faults -----------------------------------------------------------------------

    @precondition(lambda self: self.writers)
    @rule(which=st.integers(0, 1), k=st.integers(0, STEPS), within=st.booleans())
    def crash(self, which: int, k: int, within: bool) -> None:
        """Killed before a step of a flush, or within it: files written, log entry not."""
        writer = self.writers.pop(which % len(self.writers))
        for number, (table, step) in enumerate(writer.steps()):
            if number == k:
                if within:
                    self.without_its_commit(table, step)
                return
            step()

    def without_its_commit(self, table: str, step) -> None:  # type: ignore[no-untyped-def]
        before = Store(self.output).open(table).version()
        step()
        after = Store(self.output).open(table).version()
        log = f"{table}/_delta_log/"
        gone = tuple(f"{log}{version:020d}." for version in range(before + 1, after + 1))
        folder = folder_at(self.output)
        names = [e.name for e in folder.listed(log.rstrip("/")) if e.name.startswith(gone)]
        if any("checkpoint" in name for name in names):  # Made with the commit, it goes with it.
            names.append(f"{log}_last_checkpoint")
        folder.remove(names)

    @rule(accesses=st.integers(0, 60))
    def crash_of_gc(self, accesses: int) -> None:
        superseded = not self.writers
        try:
            with crashing_after(accesses):
                gc(self.output, grace_hours=0, superseded=superseded)
        except Crash:
            self.cut_short = self.cut_short or superseded

    # -- cleaning ---------------------------------------------------------------------

    @rule(superseded=st.booleans())
    def clean(self, superseded: bool) -> None:
        superseded = superseded and not self.writers
        if superseded:
            adopt(self.output, ())
        report = gc(self.output, grace_hours=0, superseded=superseded)
        assert report.notes == []
        if superseded:
            self.cut_short = False

    @precondition(lambda self: self.writers)
    @rule()
    def finish(self) -> None:
        """All runs end, and another one does what is left."""
        for writer in self.writers:
            writer.close()
        self.writers.clear()
        self.all_that_is_left()

    def all_that_is_left(self) -> None:
        if self.cut_short:
            self.clean(True)
        resume(self.output, CONFIGS[self.config], self.contents)
        wanted = undisturbed(self.config, tuple(self.contents.items()))
        assert contents_of(self.output, self.contents) == wanted

    # -- what holds at any time ---------------------------------------------------------

    @invariant()
    def every_row_once(self) -> None:
        ledger = Ledger(self.output)
        for table, key in ROW.items():
            plain = Store(self.output).open(table).to_pyarrow_dataset()
            names = ", ".join(key)
            query = f"select count(*), count(distinct ({names})) from plain"
            rows, distinct = duckdb.sql(query).fetchall()[0]
            assert rows == distinct == plain.count_rows(), table
            keys = ledger.table(table, columns=list(key), current=False)
            assert len(keys) == len(keys.group_by(list(key)).aggregate([])) == rows

    @invariant()
    def only_whole_shards(self) -> None:
        ledger, books = Ledger(self.output), Books(self.output)
        frames = ledger.table("frames", columns=["video_id", "frame_index"])
        for content in FRAME_COUNT:
            of = pc.equal(frames.column("video_id"), video_id(content))
            there = set(frames.filter(of).column("frame_index").to_pylist())
            landed = books.landed(video_id(content), FRAMES.fingerprint)
            for task in tasks_of(content, (FRAMES,)):
                owned = set(task.frames_of(task.shard.own_start, task.shard.own_stop).tolist())
                assert owned <= there or not owned & there
                if task.shard.shard_index in landed and there:
                    assert owned <= there

    @invariant()
    def sound(self) -> None:
        if not self.cut_short:
            assert [str(finding) for finding in verify(self.output).findings] == []

    def teardown(self) -> None:
        try:
            self.writers.clear()
            self.all_that_is_left()
            assert verify(self.output).findings == []
            gc(self.output, grace_hours=0, superseded=True)
            assert verify(self.output).findings == []
            for table in DATA_TABLES:
                named = {part.path for part in parts_of(Store(self.output).open(table))}
                files = set(sizes_of(Store(self.output), table))
                assert {path for path in files if not path.startswith("_delta_log")} == named
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


class StoreMachine(LedgerMachine):
    """The same on an object store."""

    def place(self) -> str:
        return f"s3://tables/states-{uuid.uuid4().hex[:8]}"


def some(sequences: int, steps: int) -> settings:
    return settings(
        max_examples=sequences,
        stateful_step_count=steps,
        deadline=None,
        derandomize=not LONG,
        # Making a failing sequence shorter takes minutes.
        phases=[Phase.generate, *([Phase.reuse, Phase.shrink] if LONG else [])],
        suppress_health_check=list(HealthCheck),
    )


LedgerMachine.TestCase.settings = some(SEQUENCES, 12)
StoreMachine.TestCase.settings = some(max(1, SEQUENCES // 20), 5)
TestLedger = LedgerMachine.TestCase


@pytest.mark.usefixtures("server")
class TestLedgerOnAStore(StoreMachine.TestCase):  # type: ignore[misc, name-defined]
    pass
