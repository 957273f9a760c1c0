"""Tables on an object store: as on a disk, whatever the store does."""

from __future__ import annotations

import datetime
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from pipeline.errors import RunAborted, UsageError
from pipeline.ledger.books import Books
from pipeline.ledger.folder import folder_at
from pipeline.ledger.gc import gc
from pipeline.ledger.reader import Ledger
from pipeline.ledger.scan import read_batches, read_table
from pipeline.ledger.status import status
from pipeline.ledger.store import Store
from pipeline.ledger.verify import verify
from tests.ledger.cleaning import NEWER, many_commits, redo, rows_of
from tests.ledger.corpus import (
    ANALYSES,
    DETECTOR,
    FRAMES,
    make_tasks,
    open_writer,
    video_id,
    write_video,
)

VARYING = ("run_id", "recorded_at", "created_at")
VIDEOS = ("a", "b")


def assert_whole(output: str, videos: tuple[str, ...] = VIDEOS) -> None:
    assert [str(finding) for finding in verify(output).findings] == []
    ledger, books = Ledger(output), Books(output)
    assert all(books.video_done(video_id(name), f) for name in videos for f in ANALYSES)
    assert ledger.table("frames").num_rows == 25 * len(videos)
    assert ledger.table("videos", current=False).num_rows == len(videos)


def write_all(output: str, videos: tuple[str, ...] = VIDEOS) -> None:
    """As a run does that commits after every video."""
    with open_writer(output) as writer:
        for name in videos:
            write_video(writer, name)
            writer.flush()


def test_rows_are_those_of_a_disk(tmp_path, remote):
    for output in (str(tmp_path / "out"), remote):
        with open_writer(output) as writer:
            write_video(writer, "a")
            write_video(writer, "b", lost=frozenset({4, 6}))
    assert rows_of(remote, VARYING) == rows_of(str(tmp_path / "out"), VARYING)
    assert status(remote).rows == status(str(tmp_path / "out")).rows
    assert folder_at(remote).folders("") == folder_at(str(tmp_path / "out")).folders("")


def test_two_writers_at_once_land_every_id_once(remote):
    command = [sys.executable, "-m", "tests.ledger.race_writer", remote]
    both = [
        subprocess.Popen(
            [*command, f"run-{number}", *VIDEOS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.communicate("\n", timeout=450) is not None
        assert process.returncode == 0
    assert [str(finding) for finding in verify(remote).findings] == []
    shards = Ledger(remote).table("shards")
    assert (
        len(shards)
        == len(shards.column("shard_id").unique())
        == 3 * len(make_tasks("a")) * len(VIDEOS)
    )
    assert Ledger(remote).table("frames").num_rows == 25 * len(VIDEOS)


@pytest.mark.parametrize("told", [{"lose": 0.1}, {"fail": 0.1}, {"slow": 0.02, "seconds": 0.3}])
def test_nothing_is_lost_and_nothing_twice_when_the_store_stumbles(server, remote, told):
    server.tell(**told)
    write_all(remote)
    assert "slow" in told or server.requests()["503"] > 10
    server.tell()
    assert_whole(remote)


def test_a_commit_whose_answer_was_lost_is_known_for_ones_own(server, remote, monkeypatch):
    """The retry of a conditional write is refused by what it wrote itself."""
    from pipeline.ledger import delta

    with open_writer(remote) as writer:
        write_video(writer, "a", lost=frozenset({4}))
        real, lost = delta.write, []

        def write(store, snapshot, spec, *args):  # type: ignore[no-untyped-def]
            real(store, Store(remote).open(spec.name), spec, *args)
            lost.append(spec.name)
            real(store, snapshot, spec, *args)  # Refused: its version is taken.

        monkeypatch.setattr(delta, "write", write)
        writer.flush()
        monkeypatch.undo()
        assert {"frames", "failures", "videos", "shards"} <= set(lost)
        assert writer.stats.rows["frames"] == 25
        assert writer.stats.landed_before == 0
    assert [str(finding) for finding in verify(remote).findings] == []
    assert Ledger(remote).table("failures", current=False).num_rows == 1
    assert Ledger(remote).table("videos", current=False).num_rows == 1


def test_compaction_whose_answers_are_lost_keeps_its_files(tmp_path, monkeypatch):
    output = str(tmp_path / "out")
    many_commits(output)
    before = rows_of(output)
    real = DeltaTable.create_write_transaction

    def lost(snapshot, *args, **kwargs):  # type: ignore[no-untyped-def]
        real(snapshot, *args, **kwargs)
        raise CommitFailedError("the version is taken")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", lost)
    report = gc(output, grace_hours=0)
    monkeypatch.undo()
    assert report.notes == []
    assert {done.table for done in report.compacted} >= {"frames", "detections", "embeddings"}
    assert rows_of(output) == before
    assert [str(finding) for finding in verify(output).findings] == []


def test_cleaning_up_while_the_store_stumbles(server, remote):
    many_commits(remote)
    before = rows_of(remote)
    server.tell(lose=0.02, fail=0.02)
    report = gc(remote, grace_hours=0)
    server.tell()
    assert {done.table for done in report.compacted} >= {"frames", "detections", "embeddings"}
    assert rows_of(remote) == before
    assert [str(finding) for finding in verify(remote).findings] == []
    names = [entry.name for entry in folder_at(remote).listed("frames")]
    assert len([name for name in names if "/analysis=" in name]) == 1


def test_superseded_rows_go_and_history_stays_readable(remote):
    many_commits(remote, ("a",))
    then = datetime.datetime.now(datetime.timezone.utc)
    time.sleep(0.1)
    redo(remote, ["a"], (FRAMES, DETECTOR, NEWER))
    assert status(remote, then).rows["embeddings"] == 25
    report = gc(remote, superseded=True)
    assert report.dropped[0].what.startswith("analysis embedder")
    assert [str(finding) for finding in verify(remote).findings] == []
    assert status(remote, then).rows["embeddings"] == 25
    folder = folder_at(remote)
    folder.remove(e.name for e in folder.listed("embeddings") if e.name.endswith(".parquet"))
    with pytest.raises(UsageError, match="gc has removed 1 files"):
        Ledger(remote, then).table("embeddings")


def test_a_file_that_is_gone_or_cut_is_named(remote):
    many_commits(remote, ("a", "b"))
    folder = folder_at(remote)
    one, two = [e.name for e in folder.listed("frames") if e.name.endswith(".parquet")]
    folder.remove([one])
    folder.write(two, folder.read(two)[:-10])
    said = [str(finding) for finding in verify(remote).findings]
    assert any(one in line and "is missing" in line for line in said)
    assert any(two in line and "according to the log" in line for line in said)


def test_a_scan_of_large_files_that_is_left_early_ends(server, remote):
    """Arrow's threads wait for ours there, and ours must not wait for them."""
    rows = pa.table({"n": np.arange(200_000), "x": np.random.default_rng(1).random(200_000)})
    folder, paths = folder_at(remote), [f"frames/{number}.parquet" for number in range(3)]
    for path in paths:
        with folder.create(path) as file:
            pq.write_table(rows, file, row_group_size=10_000)
    files, kind = Store(remote).filesystem("frames"), ds.ParquetFileFormat()
    fragments = [kind.make_fragment(path.partition("/")[2], files) for path in paths]
    dataset = ds.FileSystemDataset(fragments, rows.schema, kind, files)
    server.tell(slow=1.0, seconds=0.05)
    for take in (1, 3):
        batches = read_batches(dataset, batch_rows=1000)
        assert [len(next(batches)) for _ in range(take)] == [1000] * take
        batches.close()
    server.tell()
    assert read_table(dataset, ["n"]).num_rows == 600_000
    read = server.bytes_read(remote.split("/")[2])
    assert read < 0.8 * sum(entry.size_bytes for entry in folder.listed("frames"))


def test_refused_in_the_middle_the_writer_says_so_at_once(server, remote):
    writer = open_writer(remote)
    write_video(writer, "a")
    server.tell(refuse=1.0)
    with pytest.raises(RunAborted, match=r"output s3://.*(refuse|InvalidAccessKeyId)"):
        writer.flush()
    with pytest.raises(RunAborted, match=r"cannot write _journal/run-1/.*access refused"):
        write_video(writer, "b")
