from __future__ import annotations

import numpy as np
import pyarrow.compute as pc
import pytest

from pipeline.errors import UsageError
from pipeline.ledger.commit import LedgerWriter
from pipeline.ledger.reader import Ledger
from pipeline.ledger.schema import TABLES
from pipeline.ledger.status import status
from pipeline.records import Analysis, VideoOutcome
from tests.ledger import corpus
from tests.ledger.corpus import (
    ANALYSES,
    DETECTOR,
    EMBEDDER,
    FRAMES,
    boxes_of,
    feed,
    make_index,
    make_tasks,
    open_writer,
    source_of,
    video_id,
    write_video,
)


def test_rows_are_found_by_the_microsecond_they_were_recorded_at(output: str) -> None:
    # The log has times by the millisecond.
    at = pc.field("recorded_at")
    for name in ("videos", "failures"):
        times = Ledger(output).table(name).column("recorded_at")
        assert len(times)
        for value in times.unique():
            for wanted, count in (
                (at == value, pc.sum(pc.equal(times, value)).as_py()),
                (at >= value, pc.sum(pc.greater_equal(times, value)).as_py()),
                (at > value, pc.sum(pc.greater(times, value)).as_py()),
            ):
                assert Ledger(output).table(name, filter=wanted).num_rows == (count or 0)


def test_a_frame_by_uri_and_by_content(output: str) -> None:
    ledger = Ledger(output)
    for name in ("/videos/a.mp4", video_id("a")):
        frame = ledger.frame(name, 10)
        assert (frame.video_id, frame.frame_index) == (video_id("a"), 10)
        assert (frame.row["pts"], frame.row["status"]) == (10 * 1001 + 7, "ok")
        assert frame.detections.num_rows == boxes_of(10) == 2
        assert frame.detections.column("detection_index").to_pylist() == [0, 1]
        assert frame.embedding is not None
        assert frame.embedding.dtype == np.float32
        assert frame.embedding.tolist() == [10.0] * corpus.DIM
    lost = ledger.frame("/videos/c.mp4", 6)
    assert (lost.row["status"], lost.embedding, lost.detections.num_rows) == ("failed", None, 0)


def test_errors_name_what_there_is(output: str, tmp_path) -> None:
    ledger = Ledger(output)
    with pytest.raises(UsageError, match=r"no video /video/a.mp4; did you mean /videos/a.mp4"):
        ledger.frame("/video/a.mp4", 0)
    with pytest.raises(UsageError, match=r"no video qqqq; it has 3 videos, such as"):
        ledger.index("qqqq")
    with pytest.raises(UsageError, match=r"no frame 11; nearest are 10 and 12 \(25 frames"):
        ledger.frame("/videos/a.mp4", 11)
    with pytest.raises(UsageError, match=r"no table boxes; there are .*detections"):
        ledger.table("boxes")
    with pytest.raises(UsageError, match=r"no column ptss; it has .*pts_s"):
        ledger.table("frames", columns=["ptss"])
    with pytest.raises(UsageError, match=r"zz is no analysis here; there are .*detector"):
        ledger.table("detections", analysis="zz")
    with pytest.raises(UsageError, match="is no frameledger output: no such folder"):
        Ledger(str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="is no frameledger output: it has no table"):
        Ledger(str(tmp_path / "empty"))


def test_tables_filters_and_batches(output: str) -> None:
    ledger = Ledger(output)
    mine = pc.field("video_id") == video_id("b")
    table = ledger.table("frames", columns=["frame_index"], filter=mine)
    assert sorted(table.column(0).to_pylist()) == list(range(0, 33, 2))
    batches = list(ledger.batches("frames", columns=["frame_index"], batch_rows=5))
    assert max(len(batch) for batch in batches) <= 5
    assert sum(len(batch) for batch in batches) == 52
    for name, spec in TABLES.items():
        assert ledger.table(name).schema.names == spec.schema.names
    index = ledger.index("/videos/b.mp4")
    assert np.array_equal(index.pts, make_index("b", 33).pts)


def test_a_changed_file_shows_its_newest_content(output: str) -> None:
    with open_writer(output, "run-2") as writer:
        write_video(writer, "a", frames=10, stamp="2:2", content="a2")
    ledger = Ledger(output)
    ids = set(ledger.table("frames").column("video_id").to_pylist())
    assert ids == {video_id(name) for name in ("a2", "b", "c")}
    assert len(ledger.videos()) == 3
    assert ledger.table("frames", current=False).num_rows == 52 + 5
    assert ledger.frame("/videos/a.mp4", 0).video_id == video_id("a2")
    assert ledger.frame(video_id("a"), 0).video_id == video_id("a")  # old rows stay true
    with open_writer(output, "run-3") as writer:  # the old bytes under another name
        writer.add_video(VideoOutcome(source_of("copy"), make_index("a"), "ok"))
    assert ledger.table("frames").num_rows == 52 + 5


def test_the_newest_analysis_of_each_name_and_an_older_one_by_asking(output: str) -> None:
    newer = Analysis("embedder", "embeddings", {"model": "c", "frames": FRAMES.fingerprint})
    analyses = {FRAMES.fingerprint: FRAMES, newer.fingerprint: newer}
    with LedgerWriter(output, "run-2", analyses) as writer:
        for task in make_tasks("a", analyses=(newer,)):
            feed(writer, task)
    ledger = Ledger(output)
    assert [a.name for a in ledger.analyses()].count("embedder") == 2
    assert set(ledger.table("embeddings").column("analysis").to_pylist()) == {newer.fingerprint}
    old = ledger.table("embeddings", analysis=EMBEDDER.fingerprint[:8])
    assert old.num_rows == 51
    assert ledger.table("embeddings", current=False).num_rows == 51 + 25
    assert ledger.frame("/videos/b.mp4", 0).embedding is None
    assert ledger.frame("/videos/b.mp4", 0, analysis=EMBEDDER.fingerprint).embedding is not None
    found = {a.fingerprint: a for a in status(output).analyses}
    assert not found[EMBEDDER.fingerprint].current
    assert found[newer.fingerprint].current
    assert (found[newer.fingerprint].videos, found[newer.fingerprint].frames) == (1, 25)


def test_reads_while_a_run_is_writing(tmp_path) -> None:
    output = str(tmp_path / "o")
    writer = open_writer(output)
    ledger = Ledger(output)
    assert ledger.table("frames").num_rows == 0
    assert len(ledger.videos()) == 0
    tasks = make_tasks("a")
    for number, task in enumerate(tasks):
        feed(writer, task)
        writer.flush()
        landed = sum(t.frame_count for t in tasks[: number + 1])
        assert ledger.table("frames").num_rows == landed
    assert ledger.frame(video_id("a"), 0).row["frame_index"] == 0  # no videos row yet


def test_status_counts(output: str) -> None:
    found = status(output)
    assert found.videos == {"ok": 2, "partial": 1}
    assert [a.name for a in found.analyses] == ["frames", "detector", "embedder"]
    assert all(a.current and a.videos == 3 and a.frames == 52 for a in found.analyses)
    assert found.rows["frames"] == 52
    assert found.rows["embeddings"] == 51
    assert found.failures == 1
    assert found.files >= 5
    assert found.size_bytes > 1000


def test_duckdb_reads_the_files_of_the_log(output: str) -> None:
    duckdb = pytest.importorskip("duckdb")
    from pipeline.ledger.store import Store

    files = [Store(output).uri("detections") + "/" + f.path for f in _fragments(output)]
    query = "select count(*), count(distinct (video_id, frame_index, detection_index)), max(x2) "
    rows = duckdb.sql(f"{query} from read_parquet({files!r})").fetchall()
    boxes = Ledger(output).table("detections")
    assert rows == [(boxes.num_rows, boxes.num_rows, pc.max(boxes.column("x2")).as_py())]
    assert set(boxes.column("analysis").to_pylist()) == {DETECTOR.fingerprint} <= set(ANALYSES)


def _fragments(output: str):  # type: ignore[no-untyped-def]
    return Ledger(output).dataset("detections").get_fragments()


def test_an_open_ledger_sees_that_a_file_has_another_content(tmp_path):
    output = str(tmp_path)
    with open_writer(output) as writer:
        write_video(writer, "a")
    ledger = Ledger(output)
    assert [ledger.video_id("/videos/a.mp4") for _ in range(2)] == [video_id("a")] * 2
    with open_writer(output, "run-2") as writer:
        write_video(writer, "a", stamp="2:2", content="a2")
    assert [ledger.video_id("/videos/a.mp4") for _ in range(2)] == [video_id("a2")] * 2
