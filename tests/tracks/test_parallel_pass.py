"""SAM 2's tracks of videos whose shards are followed at once: real files, real tables."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.engine.budget import Budget
from pipeline.engine.stats import RunStats
from pipeline.errors import ConfigError
from pipeline.ledger.reader import Ledger
from pipeline.ledger.verify import verify
from pipeline.tracks.sam2_pass import Sam2Follower
from pipeline.tracks.shards import follower_of
from pipeline.tracks.track_pass import track_videos
from tests.engine.test_faults import Killer
from tests.tracks.made import make_job, rows, track
from tests.tracks.sam2_videos import FRAMES, assert_tidy, config, detected, shorten_shards

pytestmark = pytest.mark.usefixtures("short_shards")
OVERLAP = 4


def parallel(model: Path, **tracker: object):  # type: ignore[no-untyped-def]
    return config(model, parallel=True, overlap_frames=OVERLAP, **tracker)


@pytest.fixture(scope="session")
def apart(tmp_path_factory, model, video) -> Path:
    """An output whose tracks were made of shards in their order."""
    with pytest.MonkeyPatch.context() as patch:
        shorten_shards(patch)
        output = tmp_path_factory.mktemp("apart") / "out"
        job = detected(output, parallel(model), video)
        assert track(job, video.index).tracked == 1
    assert verify(str(output)).sound
    assert_tidy(output)
    return output


def tracks_in(output: object) -> list[dict[str, object]]:
    return Ledger(str(output)).tracks().drop_columns(["analysis", "run_id"]).to_pylist()


def test_objects_keep_their_ids_across_borders_and_each_join_is_recorded(apart, video):
    found = tracks_in(apart)
    assert {row["frame_index"] for row in found} == set(range(FRAMES))
    by_frame: dict[int, set[int]] = {}
    for row in found:
        by_frame.setdefault(row["frame_index"], set()).add(row["track_id"])
    ids = sorted({row["track_id"] for row in found})
    assert ids == list(range(1, len(ids) + 1))
    joins = Ledger(str(apart)).track_joins(video.source.uri)
    assert joins.num_rows > 0
    borders = {10, 20, 30}
    assert set(joins.column("frame_index").to_pylist()) <= borders
    for one in joins.to_pylist():
        seen = [row["frame_index"] for row in found if row["track_id"] == one["track_id"]]
        assert min(seen) < one["frame_index"] <= max(seen)
        assert 0.001 <= one["iou"] <= 1
        assert -1 <= one["similarity"] <= 1
    # Whatever is on both sides of a border was joined there.
    both = {
        (border, track)
        for border in borders
        for track in ids
        if len({row["frame_index"] < border for row in found if row["track_id"] == track}) == 2
    }
    assert both == {(one["frame_index"], one["track_id"]) for one in joins.to_pylist()}
    assert Ledger(str(apart)).track_joins().equals(joins)


def test_shards_that_come_in_another_order_make_the_same_rows(tmp_path, model, video, apart):
    job = detected(tmp_path / "out", parallel(model), video)
    follower = follower_of(job.config, "cpu", 1)

    def backwards(given, rows_of, stop) -> Iterator[object]:  # type: ignore[no-untyped-def]
        for work in given:
            dues = []
            while due := work.next():
                dues.append(due)
            assert len(dues) == 4
            for opening, task, is_last in reversed(dues):
                of_task = rows_of(task)
                came = follower.follow(opening, task, of_task, is_last)
                yield from work.came(task, came, of_task)

    due = {bytes.fromhex(video.index.video_id)}
    assert track_videos(job, due, set(), Budget(), RunStats(), backwards) == []
    assert rows(job) == tracks_in(apart)
    assert verify(job.output).sound


def test_ray_follows_shards_at_once_and_replaces_a_process_that_is_killed(
    ray_here, tmp_path, model, video, apart, monkeypatch
):
    from pipeline.engine import track_actors

    chosen = parallel(model)
    engine = chosen.engine.model_copy(update={"analyzers": 2})
    job = detected(tmp_path / "out", chosen.model_copy(update={"engine": engine}), video)
    send, busy = track_actors._Pool._send, []

    def counted(self, *arguments: object) -> None:
        send(self, *arguments)
        busy.append(len(self._busy))

    monkeypatch.setattr(track_actors._Pool, "_send", counted)
    stats, due = RunStats(), {bytes.fromhex(video.index.video_id)}
    with Killer(1, titles=("TrackActor.follow",)) as killer:
        spread = track_actors.follow_on_ray(job, None, stats.say)
        assert track_videos(job, due, set(), Budget(), stats, spread) == []
    assert len(killer.killed) == 1
    assert max(busy) == 2
    assert rows(job) == tracks_in(apart)
    assert verify(job.output).sound
    assert_tidy(tmp_path / "out")


@pytest.mark.parametrize(
    ("shard", "state"), [(1, "there"), (2, "there"), (3, "there"), (2, "gone")]
)
def test_a_pass_goes_on_at_any_border(tmp_path, model, video, apart, monkeypatch, shard, state):
    job = detected(tmp_path / "out", parallel(model), video)
    follow, tried = Sam2Follower.follow, []

    def cut(self, opening, task, rows, is_last):
        tried.append(task.shard.shard_index)
        if len(tried) == shard + 1:
            raise KeyboardInterrupt
        return follow(self, opening, task, rows, is_last)

    monkeypatch.setattr(Sam2Follower, "follow", cut)
    with pytest.raises(KeyboardInterrupt):
        track(job, video.index)
    if state == "gone":
        shutil.rmtree(tmp_path / "out" / "_tracks")
    assert track(job, video.index).tracked == 1
    assert tried == [*range(shard + 1), *range(shard if state == "there" else 0, 4)]
    assert rows(job) == tracks_in(apart)
    joins = [Ledger(str(one)).track_joins().drop_columns("run_id") for one in (job.output, apart)]
    assert joins[0].equals(joins[1])
    assert verify(job.output).sound
    assert_tidy(tmp_path / "out")


def test_shards_one_after_the_other_are_another_analysis_without_joins(tmp_path, model, video):
    job = detected(tmp_path / "out", config(model), video)
    track(job, video.index)
    assert Ledger(job.output).track_joins().num_rows == 0
    prints = {
        make_job(tmp_path / "out", one).tracks.fingerprint
        for one in (config(model), config(model, overlap_frames=9), parallel(model))
    }
    assert len(prints) == 2
    assert make_job(tmp_path / "out", config(model, overlap_frames=9)).tracks == job.tracks


def test_prompts_by_hand_are_not_for_shards_apart(model):
    with pytest.raises(ConfigError, match="leave out one of parallel and prompts"):
        parallel(model, prompts="prompts.yaml")
