from __future__ import annotations

import time

import pytest

from pipeline.errors import UsageError
from pipeline.ledger.commit import LedgerWriter
from pipeline.ledger.reader import Ledger
from pipeline.ledger.verify import verify
from pipeline.records import Failure, VideoOutcome
from tests.ledger.corpus import (
    ANALYSES,
    feed,
    make_index,
    make_results,
    make_tasks,
    open_writer,
    source_of,
    write_video,
)


def test_rows_land_and_add_up(output: str) -> None:
    report = verify(output)
    assert report.findings == []
    assert report.counts["frames"] == 25 + 17 + 10
    assert report.counts["embeddings"] == 25 + 17 + 9
    ledger = Ledger(output)
    assert ledger.table("frames").column("status").to_pylist().count("failed") == 1
    assert sorted(ledger.videos().column("status").to_pylist()) == ["ok", "ok", "partial"]


def test_a_shard_is_answered_once_when_whole(tmp_path) -> None:
    writer = open_writer(tmp_path / "o")
    task = make_tasks("a")[0]
    writer.begin(task, 1)
    results, end = make_results(task)
    assert writer.add_end(end) is None  # the end may overtake clips
    for result in results[:-1]:
        assert writer.add_result(result) is None
    assert writer.pending_bytes > 0
    whole = writer.add_result(results[-1])
    assert whole is not None
    assert (whole.task_key, whole.frames) == (task.key, task.frame_count)
    assert whole.rows["frames"] == whole.rows["embeddings"] == task.frame_count
    assert writer.pending_bytes == 0
    assert writer.ready_bytes > 0
    assert writer.add_result(results[-1]) is None  # late and superfluous


def test_attempts_that_were_superseded_or_discarded_are_ignored(tmp_path) -> None:
    writer = open_writer(tmp_path / "o")
    task = make_tasks("a")[0]
    first, _ = make_results(task, 1)
    writer.begin(task, 1)
    writer.add_result(first[0])
    writer.discard(task.key, 1)
    writer.add_result(first[1])
    assert writer.pending_bytes == 0
    writer.begin(task, 2)
    writer.add_result(first[0])
    writer.discard(task.key, 1)  # late: attempt 2 goes on
    assert feed(writer, task, 2) is not None
    writer.begin(task, 3)  # the shard is ready already: redone, it is not there twice
    assert feed(writer, task, 3) is not None
    writer.flush()
    assert Ledger(str(tmp_path / "o")).table("frames").num_rows == task.frame_count


def test_results_that_do_not_add_up_are_dropped_and_can_be_redone(tmp_path) -> None:
    writer = open_writer(tmp_path / "o")
    task = make_tasks("a")[0]
    results, end = make_results(task)
    writer.begin(task, 1)
    for result in [results[0], *results[:-1]]:
        writer.add_result(result)
    with pytest.raises(ValueError, match="clips"):
        writer.add_end(end)
    assert feed(writer, task, 2) is not None


def test_a_run_again_changes_nothing(output: str) -> None:
    with open_writer(output, "run-2") as writer:
        for name, frames in (("a", 50), ("b", 33)):
            writer.add_index(make_index(name, frames))
            for task in make_tasks(name, frames):
                feed(writer, task)
    assert writer.stats.commits == 0
    assert writer.stats.landed_before == 3 * (len(make_tasks("a")) + len(make_tasks("b", 33)))
    assert verify(output).findings == []
    assert Ledger(output).table("indexes").num_rows == 3


def test_commits_by_size_and_by_time(tmp_path) -> None:
    writer = open_writer(tmp_path / "o", commit_bytes=1, commit_seconds=1000)
    assert not writer.flush_if_due()
    feed(writer, make_tasks("a")[0])
    assert writer.flush_if_due()
    assert writer.ready_bytes == 0
    assert writer.stats.commits == 4  # frames, detections, embeddings, shards
    assert writer.stats.commit_s > 0
    writer = open_writer(tmp_path / "o", commit_bytes=2**30, commit_seconds=0.05)
    feed(writer, make_tasks("b")[0])
    assert not writer.flush_if_due()
    time.sleep(0.06)
    assert writer.flush_if_due()


def test_whole_shards_are_kept_when_the_run_is_interrupted(tmp_path) -> None:
    tasks = make_tasks("a")

    def interrupted() -> None:
        with open_writer(tmp_path / "o") as writer:
            feed(writer, tasks[0])
            writer.begin(tasks[1], 1)
            writer.add_result(make_results(tasks[1])[0][0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert Ledger(str(tmp_path / "o")).table("frames").num_rows == tasks[0].frame_count


def test_failures_and_videos_keep_what_they_were_told(tmp_path) -> None:
    with open_writer(tmp_path / "o") as writer:
        writer.add_failure(
            Failure("/videos/x.mp4", "decode", "broken", stamp="2:2", video_id="ab", shard_index=3)
        )
        writer.add_video(VideoOutcome(source_of("x"), None, "failed", "no video stream"))
        writer.add_video(VideoOutcome(source_of("y"), make_index("y"), "ok"))
    ledger = Ledger(str(tmp_path / "o"))
    failure = ledger.table("failures").to_pylist()[0]
    assert (failure["stage"], failure["reason"], failure["stamp"]) == ("decode", "broken", "2:2")
    assert (failure["shard_index"], failure["first_frame"], failure["run_id"]) == (3, None, "run-1")
    assert failure["recorded_at"].tzinfo is not None
    x, y = ledger.videos().to_pylist()
    assert (x["video_id"], x["status"], x["reason"]) == (None, "failed", "no video stream")
    assert (y["time_base"], y["frame_count"]) == ("1/30000", 50)
    assert y["analyses"] == sorted(ANALYSES)


def test_an_output_that_cannot_be_one(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"path holds %"):
        LedgerWriter(str(tmp_path / "50%"), "run", ANALYSES)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot make the folder"):
        LedgerWriter(str(tmp_path / "file" / "o"), "run", ANALYSES)


def test_a_restarted_collector_of_the_same_run_loses_nothing(tmp_path) -> None:
    for name in ("a", "b"):
        with open_writer(tmp_path / "o", "run-1") as writer:
            write_video(writer, name)
    assert len(Ledger(str(tmp_path / "o")).videos()) == 2
