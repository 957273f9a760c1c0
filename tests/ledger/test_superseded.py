"""Rows that no reader sees any more go, and come back where they are wanted again."""

from __future__ import annotations

import pytest

from pipeline.errors import RunAborted
from pipeline.ledger.adopt import adopt
from pipeline.ledger.analyses import read_analyses
from pipeline.ledger.books import Books
from pipeline.ledger.catchup import catch_up
from pipeline.ledger.commit import LedgerWriter
from pipeline.ledger.gc import gc
from pipeline.ledger.reader import Ledger
from pipeline.ledger.schema import TABLES
from pipeline.ledger.store import Store
from pipeline.ledger.superseded import mark_leaving
from pipeline.ledger.verify import verify
from pipeline.records import Analysis, VideoOutcome
from tests.ledger.cleaning import NEWER, redo, rows_of
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
