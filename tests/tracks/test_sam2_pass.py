"""SAM 2's tracks of videos whose detections have landed: a tiny model, real files, real tables."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from pipeline.engine.budget import Budget
from pipeline.engine.stats import RunStats
from pipeline.ledger.folder import folder_at
from pipeline.ledger.leases import Lease
from pipeline.ledger.status import status
from pipeline.ledger.verify import verify
from pipeline.tracks.sam2_pass import Sam2Follower
from pipeline.tracks.spreads import follow_here
from pipeline.tracks.track_pass import track_videos
from tests.tracks.made import detect, make_job, rows, track
from tests.tracks.sam2_videos import (
    FRAMES,
    SHARD_FRAMES,
    SIZE,
    assert_tidy,
    config,
    cut_at,
    detected,
)

pytestmark = pytest.mark.usefixtures("short_shards")


def test_rows_have_masks_of_the_frames_size(whole):
    tracked = [row for row in whole if row["state"] == "tracked"]
    assert len(tracked) > FRAMES
    assert {row["frame_index"] for row in whole} == set(range(FRAMES))
    for row in tracked[::7]:
        assert row["mask"]["size"] == [SIZE[1], SIZE[0]]
        decoded = coco.decode({**row["mask"], "counts": row["mask"]["counts"].encode()})
        y, x = np.nonzero(decoded)
        box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert [row[side] for side in ("x1", "y1", "x2", "y2")] == box
        assert 0 <= row["score"] <= 1
    assert all(row["mask"] is row["score"] is None for row in whole if row["state"] == "lost")


@pytest.mark.parametrize("length", [7, 1000])
def test_tracks_are_the_same_whatever_the_clips(tmp_path, model, video, whole, length):
    job = make_job(tmp_path / "out", config(model, length))
    detect(job, video.index, video.scene, backwards=True, source=video.source)
    track(job, video.index)
    assert rows(job) == whole


def test_a_pass_goes_on_behind_the_shard_at_which_it_was_cut(
    anywhere, model, video, whole, monkeypatch
):
    """With the state that it finds there; without it, from the beginning."""
    job = make_job(anywhere, config(model))
    shards = detect(job, video.index, video.scene, source=video.source)
    follow, tried = Sam2Follower.follow, []

    def cut(self, opening, task, rows, is_last):
        tried.append(task.shard.shard_index)
        if task.shard.shard_index == 2 and len(tried) == 3:
            raise KeyboardInterrupt
        return follow(self, opening, task, rows, is_last)

    monkeypatch.setattr(Sam2Follower, "follow", cut)
    with pytest.raises(KeyboardInterrupt):
        track(job, video.index)
    assert {a.name: a.shards for a in status(job.output).analyses}["tracker"] == 2
    states = folder_at(str(anywhere)).listed("_tracks")
    assert [one.name.rpartition("/")[2].partition("-")[0] for one in states][-1] == "000001"
    assert track(job, video.index).tracked == 1
    assert tried == [0, 1, 2, *range(2, shards)]
    assert rows(job) == whole
    assert verify(job.output).sound
    assert_tidy(anywhere)


@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_a_state_that_cannot_be_used_costs_time_alone(
    tmp_path, model, video, whole, monkeypatch, how
):
    job = detected(tmp_path / "out", config(model), video)
    with monkeypatch.context() as patch:
        patch.setattr(Sam2Follower, "_state", cut_at(2))
        with pytest.raises(KeyboardInterrupt):
            track(job, video.index)
    for file in (tmp_path / "out" / "_tracks").rglob("*.safetensors"):
        file.unlink() if how == "gone" else file.write_bytes(file.read_bytes()[:-1])
    assert track(job, video.index).tracked == 1
    assert rows(job) == whole
    assert verify(job.output).sound
    assert_tidy(tmp_path / "out")


def test_a_shard_that_fails_once_is_followed_again_from_the_state_before(
    tmp_path, model, video, whole, monkeypatch
):
    job = detected(tmp_path / "out", config(model), video)
    state, asked = Sam2Follower._state, []

    def fails(self, tracker, is_last):
        asked.append(1)
        if len(asked) == 2:
            raise RuntimeError("a kernel that failed")
        return state(self, tracker, is_last)

    monkeypatch.setattr(Sam2Follower, "_state", fails)
    stats = track(job, video.index)
    assert rows(job) == whole
    assert stats.tracked == 1


def test_nothing_is_begun_once_the_budget_is_up(tmp_path, model, video):
    job = detected(tmp_path / "out", config(model), video)
    stats = RunStats()
    due = {bytes.fromhex(video.index.video_id)}
    spent = Budget(frames=1, begun_frames=1)
    track_videos(job, due, set(), spent, stats, follow_here(job, "cpu"))
    assert (stats.tracked, stats.left.videos, rows(job)) == (0, 1, [])


def test_a_budget_that_ends_within_a_video_leaves_the_rest(tmp_path, model, video, whole):
    job = detected(tmp_path / "out", config(model), video)
    stats = RunStats()
    due = {bytes.fromhex(video.index.video_id)}
    budget = Budget(frames=1)
    follow = follow_here(job, "cpu")

    def spread(given, rows_of, stop):
        for followed in follow(given, rows_of, stop):
            yield followed
            budget.begins(1)

    track_videos(job, due, set(), budget, stats, spread)
    assert (stats.tracked, stats.left.videos) == (1, 1)
    assert {row["frame_index"] for row in rows(job)} == set(range(SHARD_FRAMES))
    track(job, video.index)
    assert rows(job) == whole


def test_a_video_that_another_run_follows_is_left_to_it(tmp_path, model, video):
    job = detected(tmp_path / "out", config(model), video)
    mine, other = (Lease(job.output, name) for name in ("mine", "other"))
    assert other.take(f"{job.tracks.fingerprint} {video.index.video_id}")
    due, stats = {bytes.fromhex(video.index.video_id)}, RunStats()
    track_videos(job, due, set(), Budget(), stats, follow_here(job, "cpu"), mine)
    assert (stats.tracked, stats.left.other_run, rows(job)) == (0, 1, [])
    mine.close()
    other.close()
