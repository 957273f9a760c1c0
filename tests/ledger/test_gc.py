"""Cleaning up: fewer files, the same rows, nothing gone that anybody may still need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import RunAborted, UsageError
from pipeline.ledger.adopt import adopt
from pipeline.ledger.analyses import read_analyses
from pipeline.ledger.books import Books
from pipeline.ledger.catchup import catch_up
from pipeline.ledger.commit import LedgerWriter
from pipeline.ledger.compaction import FEWEST, bins_of
from pipeline.ledger.gc import gc
from pipeline.ledger.on_disk import Unnamed, unnamed_files
from pipeline.ledger.reader import Ledger
from pipeline.ledger.rewrite import Part, parts_of, rewrite, statistics
from pipeline.ledger.schema import TABLES
from pipeline.ledger.store import Store
from pipeline.ledger.superseded import mark_leaving
from pipeline.ledger.verify import verify
from pipeline.records import Analysis, VideoOutcome
from tests.ledger.corpus import (
    ANALYSES,
    DETECTOR,
    EMBEDDER,
    FRAMES,
    feed,
    make_index,
    make_tasks,
    open_writer,
    source_of,
    video_id,
    write_video,
)

NEWER = Analysis("embedder", "embeddings", {"model": "c", "frames": FRAMES.fingerprint})


LOST = {"v1": frozenset({6})}
VIDEOS = ("v0", "v1", "v2", "v3")


def many_commits(output: str, videos: tuple[str, ...] = VIDEOS) -> None:
    for number, name in enumerate(videos):
        with open_writer(output, f"run-{number}") as writer:
            write_video(writer, name, lost=LOST.get(name, frozenset()))


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


def disk(output: str) -> dict[str, bytes]:
    paths = (path for path in Path(output).rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in paths}


@pytest.fixture
def busy(tmp_path: Path) -> str:
    output = str(tmp_path / "o ü")
    many_commits(output)
    return output


def test_compaction_keeps_rows_and_leaves_few_files(busy: str) -> None:
    before = rows_of(busy)
    report = gc(busy)
    assert {done.table for done in report.compacted} >= {"frames", "detections", "embeddings"}
    assert all(done.files_before > done.files_after for done in report.compacted)
    assert rows_of(busy) == before
    assert verify(busy).findings == []
    store = Store(busy)
    assert len(parts_of(store.open("frames"))) == 1
    again = gc(busy)
    assert (again.compacted, again.removed) == ([], [])


def test_compacted_files_are_in_order_and_skipped_by(tmp_path, monkeypatch) -> None:
    """One lookup reads the row groups of its video, where before it read some of each file."""
    from dataclasses import replace

    from pipeline.ledger import delta, rewrite

    small = replace(TABLES["embeddings"], row_group_rows=32)
    for module in (delta, rewrite):
        monkeypatch.setitem(module.TABLES, "embeddings", small)
    output = str(tmp_path / "o")
    many_commits(output, tuple(f"v{number}" for number in range(8)))
    gc(output)
    ledger = Ledger(output)
    dataset = ledger.dataset("embeddings")
    wanted = ledger.frame_filter(video_id("v3"), 48, [EMBEDDER.fingerprint])
    (fragment,) = dataset.get_fragments(filter=wanted)
    assert fragment.metadata.num_row_groups == 7
    assert len(fragment.subset(wanted, schema=dataset.schema).row_groups) <= 2
    file = pq.read_table(Store(output).uri("embeddings") + "/" + fragment.path, partitioning=None)
    order = list(zip(file["video_id"].to_pylist(), file["frame_index"].to_pylist(), strict=True))
    assert order == sorted(order)
    vector = ledger.frame(video_id("v3"), 48).embedding
    assert vector is not None
    assert vector[0] == 48
    stranger = ledger.frame_filter("g" * 64, 48, [EMBEDDER.fingerprint])
    assert list(dataset.get_fragments(filter=stranger)) == []


def test_statistics_are_those_of_the_rows() -> None:
    rows = pa.table(
        {
            "a": pa.array([3, 1, None]),
            "none": pa.array([None, None, None], pa.string()),
            "nan": pa.array([1.0, float("inf"), 2.0]),
            "at": pa.array([5, 7, 6], pa.timestamp("us", tz="UTC")),
        }
    )
    found = json.loads(statistics(rows, ["a", "none", "nan", "at", "else"]))
    assert found["numRecords"] == 3
    assert found["nullCount"] == {"a": 1, "none": 3, "nan": 0, "at": 0}
    assert found["minValues"] == {"a": 1, "at": "1970-01-01T00:00:00.000005Z"}
    assert found["maxValues"] == {"a": 3, "at": "1970-01-01T00:00:00.000007Z"}


def test_bins_are_of_one_partition_and_bounded() -> None:
    def part(number: int, size: int, partition: str) -> Part:
        return Part(f"{partition}/{number}", size, 1, (("analysis", partition),))

    parts = [part(n, 10, "a") for n in range(25)] + [part(n, 10, "b") for n in range(FEWEST - 1)]
    parts.append(part(99, 60, "a"))
    bins = bins_of(parts, target_bytes=100)
    assert [len(one) for one in bins] == [10, 10, 5]
    assert all(
        one.partition == parts[0].partition and one.size_bytes == 10 for b in bins for one in b
    )


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


def test_superseded_rows_stay_while_a_journal_is_left(tmp_path) -> None:
    output = str(tmp_path / "o")
    dead = open_writer(output, "dead")
    dead.add_index(make_index("a"))
    feed(dead, make_tasks("a")[0])
    with LedgerWriter(output, "newer", {a.fingerprint: a for a in (FRAMES, NEWER)}):
        pass
    (note,) = gc(output, superseded=True).notes
    assert "run dead has left a journal" in note
    assert adopt(output, ())["embeddings"] == 8
    (dropped,) = gc(output, superseded=True).dropped
    assert dropped.rows == {"embeddings": 8, "shards": 1}
    assert verify(output).findings == []


def redo(output: str, names: list[str], analyses: tuple[Analysis, ...]) -> int:
    """What a run does with the videos: what the books lack. Returns the shards that it wrote."""
    from dataclasses import replace

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


def test_a_superseded_analysis_goes_and_comes_back(tmp_path) -> None:
    output = str(tmp_path / "o")
    names = ["a", "b"]
    redo(output, names, tuple(ANALYSES.values()))
    clean = rows_of(output, ("run_id", "recorded_at"))
    assert redo(output, names, (FRAMES, NEWER)) == 2 * len(make_tasks("a"))
    report = gc(output, superseded=True)
    assert [dropped.what for dropped in report.dropped] == [
        f"analysis embedder {EMBEDDER.fingerprint}"
    ]
    shards = 2 * len(make_tasks("a"))
    assert report.dropped[0].rows == {"embeddings": 50, "shards": shards}
    assert verify(output).findings == []
    assert {a.fingerprint for a in read_analyses(Store(output))} == {
        a.fingerprint for a in (FRAMES, DETECTOR, NEWER)
    }
    assert not Books(output).landed(video_id("a"), EMBEDDER.fingerprint)
    assert catch_up(output).rows.num_rows == 0
    # The old configuration again: its rows are written anew, though ids guarded them before.
    assert redo(output, names, tuple(ANALYSES.values())) == shards
    assert verify(output).findings == []
    gc(output, superseded=True)
    now = rows_of(output, ("run_id", "recorded_at"))
    tables = [name for name in TABLES if name != "videos"]
    assert {name: now[name] for name in tables} == {name: clean[name] for name in tables}


def test_contents_that_no_file_has_go_and_come_back(tmp_path) -> None:
    output = str(tmp_path / "o")
    with open_writer(output, "1") as writer:
        write_video(writer, "a", lost=frozenset({6}))
        write_video(writer, "b")
        write_video(writer, "gone")
    clean = rows_of(output, ("run_id", "recorded_at"))
    with open_writer(output, "2") as writer:
        write_video(writer, "a", stamp="2:2", content="a2")
        # One that cannot be read any more keeps its content.
        writer.add_video(VideoOutcome(source_of("gone", "3:3"), None, "failed", "unreadable"))
    (dropped,) = gc(output, superseded=True).dropped
    assert dropped.what == "1 contents that no file has now"
    assert dropped.rows["frames"] == 25
    assert verify(output).findings == []
    ids = set(Ledger(output).table("frames", current=False).column("video_id").to_pylist())
    assert ids == {video_id(name) for name in ("a2", "b", "gone")}
    with open_writer(output, "3") as writer:
        write_video(writer, "a", stamp="4:4", lost=frozenset({6}))
    assert verify(output).findings == []
    gc(output, superseded=True)
    now = rows_of(output, ("run_id", "recorded_at"))
    for name in ("indexes", "frames", "detections", "embeddings", "shards"):
        assert now[name] == clean[name]


def test_frames_that_a_newest_analysis_belongs_to_stay(tmp_path) -> None:
    output = str(tmp_path / "o")
    with open_writer(output) as writer:
        write_video(writer, "a")
    frames = Analysis("frames", "frames", {**FRAMES.identity, "semantics": 2})
    other = Analysis("embedder", "embeddings", {"model": "b", "frames": frames.fingerprint})
    with LedgerWriter(output, "2", {a.fingerprint: a for a in (frames, other)}):
        pass
    (dropped,) = gc(output, superseded=True).dropped
    assert dropped.what.startswith("analysis embedder")
    assert verify(output).findings == []


def test_an_analysis_that_is_being_removed_is_refused_until_it_is(tmp_path) -> None:
    output = str(tmp_path / "o")
    with open_writer(output) as writer:
        write_video(writer, "a")
    with LedgerWriter(output, "2", {a.fingerprint: a for a in (FRAMES, NEWER)}):
        pass
    store = Store(output)
    old = next(a for a in read_analyses(store) if a.fingerprint == EMBEDDER.fingerprint)
    assert mark_leaving(store, old)
    with pytest.raises(RunAborted, match=r"are being removed; end that with `frameledger gc"):
        open_writer(output, "3")
    gc(output, superseded=True)
    with open_writer(output, "4") as writer:
        write_video(writer, "a")
    assert verify(output).findings == []


def test_two_rewrites_of_the_same_files_land_once(busy: str) -> None:
    before = rows_of(busy)
    store = Store(busy)
    first, second = store.open("frames"), store.open("frames")
    parts = parts_of(first)
    assert rewrite(store, "frames", first, [parts]) is not None
    assert rewrite(store, "frames", second, [parts]) is None
    assert rows_of(busy) == before
    found = unnamed(busy, "frames")
    assert found.orphaned == ()
    assert len(found.superseded) == len(parts)


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
    assert [process.wait(60) for process in processes] == [0, 0]
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
    assert report.checkpoints == len(TABLES) - 2  # all but failures and runs
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
