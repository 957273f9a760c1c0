"""Shards with quarantined clips are taken back whole, and done again once."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from pipeline.errors import RunAborted, UsageError
from pipeline.ledger.books import Books
from pipeline.ledger.commit import LedgerWriter
from pipeline.ledger.leases import Lease
from pipeline.ledger.reader import Ledger
from pipeline.ledger.reopen import (
    FILE,
    Reopening,
    _Ranges,
    find_reopening,
    finish_reopening,
    not_redone,
    reopen,
)
from pipeline.ledger.store import Store
from pipeline.ledger.verify import verify
from pipeline.records import Analysis, Quarantine, VideoOutcome
from tests.ledger.corpus import (
    ALL,
    FRAMES,
    GRID,
    feed,
    make_index,
    make_tasks,
    open_writer,
    source_of,
    write_video,
)


@pytest.fixture
def output(tmp_path) -> str:
    """Video `a` with a quarantined clip in its second shard, and `b` whole."""
    output = str(tmp_path / "o")
    with open_writer(output) as writer:
        write_video(writer, "b")
        index = make_index("a")
        writer.add_index(index)
        for task in make_tasks("a"):
            lost = frozenset()
            if task.shard.shard_index == 1:
                clip = task.shard.clips[1]
                given_up = Quarantine(clip.clip_index, "analyze", "it crashes", 3)
                task = replace(task, quarantined=(given_up,))
                lost = frozenset(task.frames_of(clip.own_start, clip.own_stop).tolist())
            send(writer, task, lost)
        writer.add_video(VideoOutcome(source_of("a"), index, "partial", "frames are missing"))
    assert [str(finding) for finding in verify(output).findings] == []
    return output


def send(writer, task, lost) -> None:  # type: ignore[no-untyped-def]
    """As `feed`; what is quarantined is not said to be missing."""
    from tests.ledger.corpus import make_results

    results, end = make_results(task, 1, lost)
    writer.begin(task, 1)
    for result in results:
        writer.add_result(result)
    assert writer.add_end(replace(end, missing=(), missing_reason="")) is not None


def found(output: str) -> Reopening:
    books, video_id = Books(output), make_index("a").video_id
    lost = {video_id: books.quarantined(video_id, FRAMES.fingerprint)}
    what = find_reopening(Store(output), FRAMES.fingerprint, lost)
    assert what is not None
    return what


def finish(output: str) -> None:
    """The next run: does what is lacking, and nothing else."""
    books, index = Books(output), make_index("a")
    with open_writer(output, "next") as writer:
        for task in make_tasks("a"):
            due = tuple(
                f
                for f in task.analyses
                if task.shard.shard_index not in books.landed(index.video_id, f)
            )
            assert bool(due) == (task.shard.shard_index == 1)
            if due:
                feed(writer, replace(task, analyses=due))
        writer.add_video(VideoOutcome(source_of("a"), index, "ok"))


def assert_whole(output: str) -> None:
    assert [str(finding) for finding in verify(output).findings] == []
    ledger = Ledger(output)
    assert ledger.table("frames").num_rows == 50
    assert set(ledger.table("frames").column("status").to_pylist()) == {"ok"}
    assert ledger.table("embeddings").num_rows == 50
    assert ledger.table("failures").num_rows == 0


def test_it_is_the_shard_and_all_its_analyses(output):
    what = found(output)
    assert set(what.analyses) == {analysis.fingerprint for analysis in ALL}
    ((video_id, first, last),) = what.shards
    assert (video_id, first) == (make_index("a").video_id, 16)
    assert first < last < 50


def test_taken_back_and_done_again(output):
    assert reopen(Store(output), found(output), "mine")
    assert not Books(output).any_quarantined(FRAMES.fingerprint)
    finish(output)
    assert_whole(output)


def test_a_video_is_ok_where_another_sampling_lost_none(output):
    grid = replace(GRID, sampling={"stride": 1})
    other = Analysis("frames", "frames", {**grid.identity(), "semantics": 1})
    with LedgerWriter(output, "other", {other.fingerprint: other}) as writer:
        for task in make_tasks("a", analyses=(other,), grid=grid):
            send(writer, task, frozenset())
        writer.add_video(VideoOutcome(source_of("a"), make_index("a"), "ok"))
    assert [str(finding) for finding in verify(output).findings] == []


def test_failures_of_another_sampling_stay(output):
    """Clips of other frames analyses over the same frames, and what is said of whole shards."""
    grid = replace(GRID, sampling={"stride": 1})
    other = Analysis("frames", "frames", {**grid.identity(), "semantics": 1})
    index = make_index("a")
    with LedgerWriter(output, "other", {other.fingerprint: other}) as writer:
        for task in make_tasks("a", analyses=(other,), grid=grid):
            clip = task.shard.clips[0]
            given_up = Quarantine(clip.clip_index, "analyze", "it crashes", 3)
            frames = task.frames_of(clip.own_start, clip.own_stop).tolist()
            send(writer, replace(task, quarantined=(given_up,)), frozenset(frames))
        writer.add_video(VideoOutcome(source_of("a"), index, "partial", "frames are missing"))
    before = Books(output).quarantined(index.video_id, other.fingerprint)
    assert before
    assert reopen(Store(output), found(output), "mine")
    assert Books(output).quarantined(index.video_id, other.fingerprint) == before
    finish(output)
    silent = [f for f in verify(output).findings if "do not speak" in f.what]
    assert silent == []


def test_rows_that_would_not_come_back_are_named(output):
    what = found(output)
    assert not_redone(Store(output), what, [analysis.fingerprint for analysis in ALL]) == []
    assert not_redone(Store(output), what, [FRAMES.fingerprint]) == ["detector", "embedder"]


def test_many_shards_are_found_as_quickly_as_few():
    video = [make_index(str(n)).video_id for n in range(200)]
    shards = tuple((v, first, first + 9) for v in video for first in range(0, 2000, 20))
    rows = pa.table({"video_id": video * 40, "frame_index": list(range(8000))})
    inside = _Ranges(Reopening((), shards)).hold(rows, "frame_index")
    wanted = [frame < 2000 and frame % 20 < 10 for frame in range(8000)]
    assert inside.tolist() == wanted


def test_a_run_that_begins_meanwhile_is_told_to_wait(output, tmp_path):
    (tmp_path / "o" / FILE).write_text('{"analyses": [], "shards": []}')
    lease = Lease(output, "taker")
    lease.open()
    with pytest.raises(RunAborted, match="while run taker is going on"):
        finish_reopening(Store(output), "mine")
    lease.close()


@pytest.mark.parametrize("said", ["", "{", "[1"])
def test_notes_that_cannot_be_read_are_said_in_one_line(output, tmp_path, said):
    (tmp_path / "o" / FILE).write_text(said)
    with pytest.raises(UsageError, match=r"_reopen\.json is broken"):
        finish_reopening(Store(output), "mine")


def test_not_beside_another_run(output):
    lease = Lease(output, "other")
    lease.open()
    assert not reopen(Store(output), found(output), "mine")
    assert Books(output).any_quarantined(FRAMES.fingerprint)
    lease.close()
    assert reopen(Store(output), found(output), "mine")


@pytest.mark.parametrize("cut", range(7))
def test_cut_short_anywhere_the_next_run_goes_on(output, tmp_path, monkeypatch, cut):
    from pipeline.ledger import reopen as module

    change_rows, calls = module.change_rows, []

    def dying(*args, **kwargs):  # type: ignore[no-untyped-def]
        if len(calls) == cut:
            raise KeyboardInterrupt
        calls.append(args[1])
        change_rows(*args, **kwargs)

    monkeypatch.setattr(module, "change_rows", dying)
    with pytest.raises(KeyboardInterrupt):
        reopen(Store(output), found(output), "mine")
    monkeypatch.undo()
    order = ["tracks", "embeddings", "detections", "frames", "failures", "videos", "shards"]
    assert calls == order[:cut]
    finish_reopening(Store(output), "next")
    assert not (tmp_path / "o" / FILE).exists()
    finish(output)
    assert_whole(output)
