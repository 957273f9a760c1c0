"""Cleaning up: nothing goes that anybody may still need, whoever is at work meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.errors import UsageError
from pipeline.ledger.books import Books
from pipeline.ledger.catchup import catch_up
from pipeline.ledger.commit import LedgerWriter
from pipeline.ledger.gc import gc
from pipeline.ledger.reader import Ledger
from pipeline.ledger.schema import TABLES
from pipeline.ledger.store import Store
from pipeline.ledger.verify import verify
from tests.ledger.cleaning import NEWER, VIDEOS, many_commits, redo, rows_of, unnamed
from tests.ledger.corpus import (
    ANALYSES,
    FRAMES,
    feed,
    make_index,
    make_tasks,
    open_writer,
    video_id,
    write_video,
)


def disk(output: str) -> dict[str, bytes]:
    paths = (path for path in Path(output).rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in paths}


def test_nothing_within_the_grace_period_goes(busy: str) -> None:
    before = disk(busy)
    orphan = Path(Store(busy).uri("frames")) / "part-99.parquet"
    orphan.write_bytes(b"x")
    report = gc(busy)
    assert report.removed == []
    now = disk(busy)
    assert all(now[path] == content for path, content in before.items())
    old = time.time() - 25 * 3600
    os.utime(orphan, (old, old))
    (gone,) = gc(busy).removed
    assert (gone.table, gone.superseded, gone.orphaned, gone.size_bytes) == ("frames", 0, 1, 1)
    assert not orphan.exists()


def test_without_grace_only_named_files_are_left(busy: str) -> None:
    before = rows_of(busy)
    frames = Path(Store(busy).uri("frames"))
    left = [frames / "part-1.parquet", frames / "_delta_log" / "_commit_1.json.tmp"]
    left.append(frames / f"analysis={FRAMES.fingerprint}" / "part-2.parquet#1")
    for path in left:
        path.write_bytes(b"xyz")
    report = gc(busy, grace_hours=0)
    assert report.history_since is not None
    assert not any(path.exists() for path in left)
    for name in TABLES:
        found = unnamed(busy, name)
        assert (found.superseded, found.orphaned) == ((), ())
    assert gc(busy, grace_hours=0).removed == []
    assert rows_of(busy) == before
    assert verify(busy).findings == []


@pytest.mark.parametrize("grace_hours", [0, 24])
def test_a_dry_run_says_what_is_done_and_changes_nothing(busy: str, grace_hours: int) -> None:
    with LedgerWriter(busy, "newer", {a.fingerprint: a for a in (FRAMES, NEWER)}) as writer:
        feed(writer, make_tasks("v0", analyses=(NEWER,))[0])
    (Path(Store(busy).uri("frames")) / "part-99.parquet").write_bytes(b"x")
    before = disk(busy)
    said = gc(busy, dry_run=True, grace_hours=grace_hours, superseded=True)
    assert disk(busy) == before
    done = gc(busy, grace_hours=grace_hours, superseded=True)
    assert [d.what for d in said.dropped] == [d.what for d in done.dropped] != []
    assert [d.rows for d in said.dropped] == [d.rows for d in done.dropped]
    told = [(c.table, c.files_before, c.bytes_before, c.files_after) for c in said.compacted]
    did = [(c.table, c.files_before, c.bytes_before, c.files_after) for c in done.compacted]
    # The drop changes a few small files of these; the others are as they were.
    changed = {"videos"}
    assert [c for c in told if c[0] not in changed] == [c for c in did if c[0] not in changed]
    if grace_hours:
        assert said.removed == done.removed


def test_a_run_that_is_going_on_keeps_rows_and_files_since_it_began(busy: str) -> None:
    with LedgerWriter(busy, "newer", {a.fingerprint: a for a in (FRAMES, NEWER)}):
        pass
    younger, older = (Path(Store(busy).uri("frames")) / f"part-9{n}.parquet" for n in range(2))
    for path, hours in ((younger, 30), (older, 60)):
        path.write_bytes(b"x")
        os.utime(path, (time.time() - hours * 3600,) * 2)
    before = rows_of(busy)
    lease = Path(busy) / "_runs" / "run-7" / "lease.json"
    lease.parent.mkdir(parents=True)
    began = time.time() - 50 * 3600
    lease.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started_at": began}))
    report = gc(busy, superseded=True)
    assert "superseded rows stay: run run-7 is going on" in report.notes
    assert "files of the last 52 hours stay: run run-7 is going on" in report.notes
    assert (younger.exists(), older.exists()) == (True, False)
    assert gc(busy, grace_hours=0).removed == []  # what compaction superseded a moment ago
    assert rows_of(busy) == before
    lease.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started_at": 0}))
    assert any("more than a week" in note for note in gc(busy).notes)
    os.utime(lease, (began, began))  # dead
    assert gc(busy, superseded=True).notes == []
    assert not younger.exists()
    assert Ledger(busy).table("embeddings", current=False).num_rows == 0


def test_two_gcs_and_a_writer_at_once(busy: str) -> None:
    before = {name: len(rows) for name, rows in rows_of(busy).items()}
    code = (
        "import sys; from pipeline.ledger.gc import gc\n"
        "for _ in range(3): gc(sys.argv[1], grace_hours=24)"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, busy]) for _ in range(2)]
    for number in range(5):
        with open_writer(busy, f"more-{number}") as writer:
            write_video(writer, f"w{number}")
    assert [process.wait(300) for process in processes] == [0, 0]
    gc(busy)
    assert verify(busy).findings == []
    after = {name: len(rows) for name, rows in rows_of(busy).items()}
    assert after["frames"] == before["frames"] + 5 * 25
    assert after["shards"] == before["shards"] + 5 * 3 * len(make_tasks("a"))


@pytest.mark.parametrize("moment", [0.05, 0.15])
def test_killed_at_any_moment_and_run_again(busy: str, moment: float) -> None:
    with LedgerWriter(busy, "newer", {a.fingerprint: a for a in (FRAMES, NEWER)}):
        pass
    code = (
        "import sys; from pipeline.ledger.gc import gc; print('ready', flush=True)\n"
        "gc(sys.argv[1], grace_hours=0, superseded=True)"
    )
    command = [sys.executable, "-c", code, busy]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(moment)
    process.kill()
    process.wait()
    gc(busy, grace_hours=0, superseded=True)
    assert verify(busy).findings == []
    redo(busy, list(VIDEOS), tuple(ANALYSES.values()))
    assert verify(busy).findings == []
    assert Ledger(busy).table("embeddings").num_rows == 4 * 25 - 1
    for name in TABLES:
        assert unnamed(busy, name).orphaned == ()


def test_old_entries_of_logs_expire_and_nothing_else(tmp_path, monkeypatch) -> None:
    import pipeline.ledger.gc

    monkeypatch.setattr(pipeline.ledger.gc, "CHECKPOINT_EVERY", 2)
    output = str(tmp_path / "o")
    many_commits(output)
    report = gc(output)
    assert report.checkpoints == len(TABLES) - 3  # all but failures, runs and tracks
    assert report.log_entries == 0
    old = time.time() - 40 * 86400
    for path in Path(output).glob("*/_delta_log/*"):
        os.utime(path, (old, old))
    many_commits(output, ("w",))
    log = Path(Store(output).uri("frames")) / "_delta_log"
    rows, before = rows_of(output), len(list(Path(output).glob("*/_delta_log/*.json")))
    said, done = gc(output, dry_run=True), gc(output)
    left = len(list(Path(output).glob("*/_delta_log/*.json")))
    assert said.log_entries == done.log_entries == before - left > 20
    assert not (log / f"{0:020d}.json").exists()
    assert rows_of(output) == rows
    assert redo(output, [*VIDEOS, "w"], tuple(ANALYSES.values())) == 0
    assert verify(output).findings == []


def test_a_log_is_not_expired_by_commits(tmp_path) -> None:
    """What a crash left to catch up with is in the log's entries, however old they are."""
    output = str(tmp_path / "o")
    many_commits(output, ("v0",))
    dead = open_writer(output, "dead")
    dead.add_index(make_index("late"))
    feed(dead, make_tasks("late")[0])
    for name, step in dead.steps():
        if name == "shards":
            break
        step()
    for table in ("frames", "detections", "embeddings"):
        # Another writer's hundredth commit: a checkpoint, and by Delta's default the end of all
        # old entries before it.
        snapshot = Store(output).open(table)
        for path in (Path(Store(output).uri(table)) / "_delta_log").iterdir():
            old = time.time() - 40 * 86400
            os.utime(path, (old, old))
        for number in range(101 - snapshot.version()):
            properties = {"n": str(number)}
            snapshot.alter.set_table_properties(properties, raise_if_not_exists=False)
        assert list((Path(Store(output).uri(table)) / "_delta_log").glob("*.checkpoint.parquet"))
    gc(output)
    assert Books(output).landed(video_id("late"), FRAMES.fingerprint) == {0}
    assert catch_up(output).rows.num_rows == 0
    assert (
        len(Ledger(output).table("shards").filter(pa.compute.field("video_id") == video_id("late")))
        == 3
    )


def test_what_cannot_be_cleaned_is_said(tmp_path, busy: str) -> None:
    with pytest.raises(UsageError, match="--grace 200: 0 to 168 hours"):
        gc(busy, grace_hours=200)
    with pytest.raises(UsageError, match="is no frameledger output"):
        gc(str(tmp_path))


def test_a_full_disk_is_said_and_leaves_nothing(busy: str) -> None:
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
        "from pipeline.errors import RunAborted\n"
        "from pipeline.ledger.gc import gc\n"
        "try: gc(sys.argv[1])\n"
        "except RunAborted as error: print(error)"
    )
    before = rows_of(busy)
    command = [sys.executable, "-c", code, busy]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "cannot write" in ended.stdout
    assert ended.stdout.count("\n") == 1
    assert rows_of(busy) == before
    assert all(unnamed(busy, name).orphaned == () for name in TABLES)
    gc(busy)
    assert rows_of(busy) == before
    assert verify(busy).findings == []
