"""Killed writers and writers at once: nothing lost, nothing twice."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

from pipeline.ledger.books import Books
from pipeline.ledger.catchup import catch_up
from pipeline.ledger.reader import Ledger
from pipeline.ledger.schema import TABLES
from pipeline.ledger.verify import verify
from tests.ledger.corpus import (
    ALL,
    ANALYSES,
    FRAMES,
    feed,
    make_index,
    make_tasks,
    open_writer,
    video_id,
)


def _spawn(*args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.ledger.race_writer", *map(str, args)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _run(*args: object) -> int:
    process = _spawn(*args)
    process.communicate()
    return process.returncode


def _go(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


@pytest.mark.parametrize("table", [name for name in TABLES if name not in ("indexes", "runs")])
def test_killed_between_two_tables(tmp_path, table: str) -> None:
    output = str(tmp_path / "o")
    assert _run(output, "run-1", "a", "b", "--die-before", table) == -signal.SIGKILL
    assert Ledger(output).table("videos").num_rows == 0  # never ok before its data

    # Planning knows what landed without anything being written ...
    version = _versions(output)
    books = Books(output)
    done = {a.name for a in ALL if books.video_done(video_id("a"), a.fingerprint)}
    order = ["frames", "detector", "embedder"]
    cut = {"failures": 0, "frames": 0, "detections": 1, "embeddings": 2}.get(table, 3)
    assert done == set(order[:cut])
    assert _versions(output) == version
    # ... and so does `shards` after catching up, once.
    lacked = catch_up(output).rows.num_rows
    assert lacked == (cut * 2 * len(make_tasks("a")) if table != "videos" else 0)
    assert catch_up(output).rows.num_rows == 0
    assert Ledger(output).table("shards").num_rows == cut * 2 * len(make_tasks("a"))

    assert _run(output, "run-2", "a", "b", "--resume") == 0
    _assert_whole(output, ["a", "b"])


def test_killed_at_any_moment(tmp_path) -> None:
    output, videos = str(tmp_path / "o"), ["a", "b", "c", "d"]
    rng = random.Random(7)
    for attempt in range(3):
        process = _spawn(output, f"run-{attempt}", *videos)
        _go([process])
        time.sleep(rng.uniform(0.3, 1.0))
        process.kill()
        process.communicate()
    with open_writer(output, "last") as writer:
        for name in videos:
            writer.add_index(make_index(name))
            for task in make_tasks(name):
                feed(writer, task)
    _assert_whole(output, videos)


def test_two_runs_of_the_same_videos_at_once(tmp_path) -> None:
    output, videos = str(tmp_path / "o"), ["a", "b", "c"]
    processes = [_spawn(output, f"run-{i}", *videos) for i in range(2)]
    _go(processes)
    for process in processes:
        process.communicate(timeout=300)
        assert process.returncode == 0
    _assert_whole(output, videos)
    ledger = Ledger(output)
    assert len(ledger.analyses()) == len(ALL)
    assert set(ledger.table("shards").column("run_id").unique().to_pylist()) <= {"run-0", "run-1"}


def test_rows_of_a_writer_that_died_are_indexed_by_the_one_that_lives(tmp_path) -> None:
    output = str(tmp_path / "o")
    dead, alive = open_writer(output, "dead"), open_writer(output, "alive")
    task = make_tasks("a")[0]
    for writer in (dead, alive):
        feed(writer, task)
    for name, step in dead.steps():
        if name == "shards":
            break
        step()
    alive.flush()
    assert alive.stats.landed_before == 3
    assert Ledger(output).table("shards").num_rows == 3
    assert Books(output).landed(task.index.video_id, FRAMES.fingerprint) == {0}


def test_catching_up_reads_only_what_is_not_covered(tmp_path, monkeypatch) -> None:
    output = str(tmp_path / "o")
    with open_writer(output) as writer:
        for task in make_tasks("a"):
            feed(writer, task)
            writer.flush()
    read = []
    from pipeline.ledger.store import Store

    original = Store.log_entry

    def counting(self, table, version):  # type: ignore[no-untyped-def]
        read.append((table, version))
        return original(self, table, version)

    monkeypatch.setattr(Store, "log_entry", counting)
    catch_up(output)
    assert [table for table, _ in read] == ["shards"]  # the newest commit says it all


def _versions(output: str) -> dict[str, int]:
    from pipeline.ledger.store import Store

    return {name: Store(output).open(name).version() for name in TABLES}


def _assert_whole(output: str, videos: list[str]) -> None:
    report = verify(output)
    assert [str(finding) for finding in report.findings] == []
    ledger, books = Ledger(output), Books(output)
    for name in videos:
        for fingerprint in ANALYSES:
            assert books.video_done(video_id(name), fingerprint)
    frames = ledger.table("frames", columns=["video_id", "frame_index"])
    assert frames.num_rows == 25 * len(videos)
    assert frames.group_by(["video_id", "frame_index"]).aggregate([]).num_rows == frames.num_rows
    assert ledger.table("embeddings").num_rows == frames.num_rows
    assert ledger.table("indexes").num_rows == len(videos)
    shards = ledger.table("shards")
    assert shards.num_rows == shards.column("shard_id").unique().__len__()
