"""Verify finds what is planted: rows appended, changed or removed behind the ledger's back."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from pipeline.errors import UsageError
from pipeline.ledger.analyses import read_analyses
from pipeline.ledger.audit import Finding
from pipeline.ledger.gc import gc
from pipeline.ledger.reader import Ledger
from pipeline.ledger.store import Store
from pipeline.ledger.superseded import mark_leaving
from pipeline.ledger.verify import verify
from pipeline.records import VideoOutcome
from tests.ledger.corpus import (
    DETECTOR,
    FRAMES,
    feed,
    make_index,
    make_tasks,
    open_writer,
    source_of,
    video_id,
    write_video,
)

A = video_id("a")


def _delete(output: str, table: str, predicate: str) -> None:
    DeltaTable(Store(output).uri(table)).delete(predicate)


def _update(output: str, table: str, predicate: str, **values: str) -> None:
    DeltaTable(Store(output).uri(table)).update(updates=values, predicate=predicate)


def _append_again(output: str, table: str, frame: int, **values: object) -> None:
    """A copy of the first row of a frame of video a, with some values changed."""
    wanted = (pc.field("video_id") == A) & (pc.field("frame_index") == frame)
    row = Ledger(output).table(table, filter=wanted).slice(0, 1)
    for name, value in values.items():
        at = row.schema.get_field_index(name)
        row = row.set_column(at, name, pa.array([value], row.schema.field(name).type))
    write_deltalake(Store(output).uri(table), row, mode="append")


def _of_a(frame: int) -> str:
    return f"video_id = '{A}' and frame_index = {frame}"


PLANTED = {
    "frames row twice": (
        lambda o: _append_again(o, "frames", 4),
        ("frames", 4, "more than one row"),
    ),
    "frames row lost": (
        lambda o: _delete(o, "frames", _of_a(4)),
        ("frames", 4, "has no row"),
    ),
    "frame that is not sampled": (
        lambda o: _append_again(o, "frames", 4, frame_index=5, pts=5 * 1001 + 7),
        ("frames", 5, "no landed shard has"),
    ),
    "frame that the video does not have": (
        lambda o: _append_again(o, "frames", 4, frame_index=5000),
        ("frames", 5000, "no such frame"),
    ),
    "wrong pts": (
        lambda o: _update(o, "frames", _of_a(8), pts="1"),
        ("frames", 8, "pts is not the index's"),
    ),
    "wrong seconds": (
        lambda o: _update(o, "frames", _of_a(8), pts_s="pts_s + 0.001"),
        ("frames", 8, "pts_s is not that of pts"),
    ),
    "wrong keyframe": (
        lambda o: _update(o, "frames", _of_a(8), is_keyframe="false"),
        ("frames", 8, "is_keyframe"),
    ),
    "embedding twice": (
        lambda o: _append_again(o, "embeddings", 4),
        ("embeddings", 4, "more than one row"),
    ),
    "embedding lost": (
        lambda o: _delete(o, "embeddings", _of_a(4)),
        ("embeddings", 4, "has no row"),
    ),
    "embedding of a frame that failed": (
        lambda o: _update(o, "frames", _of_a(4), status="'failed'"),
        ("embeddings", 4, "not ok in frames"),
    ),
    "box of a frame that failed": (
        lambda o: _update(o, "frames", _of_a(4), status="'failed'"),
        ("detections", 4, "not ok"),
    ),
    "orphan box": (
        lambda o: _append_again(o, "detections", 4, frame_index=5),
        ("detections", 5, "not ok"),
    ),
    "box twice": (
        lambda o: _append_again(o, "detections", 4),
        ("detections", 4, "does not count"),
    ),
    "box lost": (
        lambda o: _delete(o, "detections", _of_a(4) + " and detection_index = 0"),
        ("detections", 4, "does not count"),
    ),
    "last box lost": (
        lambda o: _delete(o, "detections", _of_a(4) + " and detection_index = 1"),
        ("shards", None, "according to shards"),
    ),
    "box outside": (
        lambda o: _update(o, "detections", _of_a(4), x2="64.5"),
        ("detections", 4, "outside its frame"),
    ),
    "box below zero": (
        lambda o: _update(o, "detections", _of_a(4), y1="-1"),
        ("detections", 4, "outside its frame"),
    ),
    "box turned": (
        lambda o: _update(o, "detections", _of_a(4), x2="x1 - 1"),
        ("detections", 4, "x1 > x2"),
    ),
    "box not a number": (
        lambda o: _append_again(o, "detections", 4, detection_index=2, x1=float("nan")),
        ("detections", 4, "no number"),
    ),
    "score above 1": (
        lambda o: _update(o, "detections", _of_a(4), score="1.5"),
        ("detections", 4, "score"),
    ),
    "shards row lost": (
        lambda o: _delete(o, "shards", f"video_id = '{A}' and shard_index = 0"),
        ("videos", None, "not all of its shards"),
    ),
    "shards row twice": (
        lambda o: write_deltalake(
            Store(o).uri("shards"), Ledger(o).table("shards").slice(0, 1), mode="append"
        ),
        ("shards", None, "more than one row"),
    ),
    "index lost": (
        lambda o: _delete(o, "indexes", f"video_id = '{A}'"),
        ("frames", None, "without an index"),
    ),
    "index twice": (
        lambda o: write_deltalake(
            Store(o).uri("indexes"), Ledger(o).table("indexes").slice(0, 1), mode="append"
        ),
        ("indexes", None, "more than one index"),
    ),
    "wrong clip": (
        lambda o: _update(o, "frames", _of_a(8), clip_index="clip_index + 1"),
        ("frames", 8, "clip_index"),
    ),
    "wrong seconds of an embedding": (
        lambda o: _update(o, "embeddings", _of_a(8), pts_s="123"),
        ("embeddings", 8, "pts_s is not that of pts"),
    ),
    "wrong seconds of a box": (
        lambda o: _update(o, "detections", _of_a(8), pts_s="123"),
        ("detections", 8, "pts_s is not that of pts"),
    ),
    "wrong count of frames": (
        lambda o: _update(o, "videos", f"video_id = '{A}'", frame_count="999"),
        ("videos", None, "its index has 50"),
    ),
    "ok with a frame that failed": (
        lambda o: _update(o, "frames", _of_a(4), status="'failed'"),
        ("videos", None, "is ok, but some of its frames"),
    ),
    "a frame that failed in silence": (
        lambda o: _update(o, "frames", _of_a(4), status="'failed'"),
        ("frames", 4, "failures do not speak of"),
    ),
    "failures lost": (
        lambda o: _delete(o, "failures", "true"),
        ("frames", 6, "failures do not speak of"),
    ),
    "a shard that a partial video lacks in silence": (
        lambda o: (
            _update(o, "videos", f"video_id = '{A}'", status="'partial'"),
            _delete(o, "shards", f"video_id = '{A}' and shard_index = 0"),
        ),
        ("videos", None, "failures do not say what is missing"),
    ),
    "unknown analysis": (
        lambda o: _append_again(o, "embeddings", 4, analysis="0" * 16),
        ("embeddings", None, "does not know"),
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(output: str, fault: str) -> None:
    plant, (table, frame, words) = PLANTED[fault]
    plant(output)
    found = verify(output).findings
    assert any(f.table == table and f.frame == frame and words in f.what for f in found), found


def test_a_shard_that_is_whole_in_shards_but_lacks_frames(output: str) -> None:
    _update(output, "shards", f"video_id = '{A}' and shard_index = 0", last_frame="6", frames="4")
    words = {finding.what for finding in verify(output).findings}
    assert any("all shards have landed with" in what for what in words)
    assert any("no landed shard" in what for what in words)


def test_ok_before_its_shards(tmp_path) -> None:
    output = str(tmp_path / "o")
    with open_writer(output) as writer:
        writer.add_index(make_index("a"))
        feed(writer, make_tasks("a")[0])
    assert verify(output).findings == []  # unfinished is no fault
    with open_writer(output) as writer:
        writer.add_video(VideoOutcome(source_of("a"), make_index("a"), "ok"))
    found = verify(output).findings
    assert {finding.analysis for finding in found} >= {FRAMES.fingerprint, DETECTOR.fingerprint}
    assert all("/videos/a.mp4 is ok, but" in str(finding) for finding in found)


def test_findings_do_not_depend_on_thegroups_of(output: str) -> None:
    _delete(output, "frames", "frame_index = 4")
    whole, parts = verify(output), verify(output, group_frames=1)
    assert sorted(map(str, whole.findings)) == sorted(map(str, parts.findings))
    assert len(whole.findings) > 3
    assert whole.counts == parts.counts


def test_a_sound_output_with_a_changed_file_and_a_second_run(output: str) -> None:
    with open_writer(output, "run-2") as writer:
        write_video(writer, "a", frames=10, stamp="2:2", content="a2")
        writer.add_index(make_index("empty", 0))
        writer.add_video(VideoOutcome(source_of("empty"), make_index("empty", 0), "ok"))
    report = verify(output)
    assert [str(finding) for finding in report.findings] == []
    assert report.sound
    assert report.counts["videos"] == 5


def test_what_a_finding_says() -> None:
    finding = Finding("frames", "ab", "has no row", frame=3, count=2, analysis="f0")
    wanted = "frames, analysis f0, video ab, frame 3: has no row (2 in this video)"
    assert str(finding) == wanted


def test_files_that_no_version_names_are_counted(output: str) -> None:
    (Path(Store(output).uri("frames")) / "part-9.parquet").write_bytes(b"123")
    gc(output)  # what it supersedes is still named by earlier versions
    report = verify(output)
    assert (report.findings, report.unreferenced, report.unreferenced_bytes) == ([], 1, 3)


def test_an_analysis_that_is_being_removed_is_not_looked_at(output: str) -> None:
    store = Store(output)
    detector = next(a for a in read_analyses(store) if a.name == "detector")
    assert mark_leaving(store, detector)
    _delete(output, "shards", f"analysis = '{DETECTOR.fingerprint}'")
    report = verify(output)
    assert report.findings == []
    assert "detections" not in report.counts


def test_no_output(tmp_path) -> None:
    with pytest.raises(UsageError, match="is no frameledger output"):
        verify(str(tmp_path))
