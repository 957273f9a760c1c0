"""SAM 2's tracks of videos whose detections have landed: a tiny model, real files, real tables."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pycocotools import mask as coco

from pipeline.config import Config, DecodeConfig
from pipeline.config_file import parse_config
from pipeline.demo.video import write_video
from pipeline.demo.world import World
from pipeline.engine.budget import Budget
from pipeline.engine.job import Job
from pipeline.engine.stats import RunStats
from pipeline.errors import ConfigError, RunAborted, UsageError
from pipeline.ledger.folder import folder_at
from pipeline.ledger.leases import Lease
from pipeline.ledger.reader import Ledger
from pipeline.ledger.status import status
from pipeline.ledger.verify import verify
from pipeline.records import Source, VideoIndex
from pipeline.sources.files import look
from pipeline.sources.index import index_video
from pipeline.tracks.light import Boxes
from pipeline.tracks.sam2_pass import Sam2Follower
from pipeline.tracks.track_pass import follow_here, track_videos
from tests.tracks.made import Scene, boxes, detect, make_job, rows, track
from tests.tracks.sam2_made import random_sam2

FRAMES = 40
SIZE = (128, 80)
SHARD_FRAMES = 10


@pytest.fixture(autouse=True)
def short_shards(monkeypatch):
    """Several shards in a video that is made in a moment."""
    from pipeline.sources.plan import Grid

    def short(**settings):
        return Grid(**settings, shard_frames=SHARD_FRAMES)

    monkeypatch.setattr("pipeline.engine.job.Grid", short)


@dataclass(frozen=True)
class Made:
    """A video, and what a detector that errs in nothing finds in it."""

    source: Source
    index: VideoIndex
    scene: Scene


@pytest.fixture(params=["disk", "store"])
def anywhere(request, tmp_path: Path) -> str:
    """An output that nobody has used, in a folder and on a store."""
    if request.param == "disk":
        return str(tmp_path / "out")
    request.getfixturevalue("store")
    return "s3://tables/cut"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    random_sam2(folder)
    return folder


def make(path: Path, seed: int, count: int = FRAMES) -> Made:
    world = World(seed, *SIZE, frame_count=count)
    write_video(path, world, gop=10)

    def scene(frame: int, time_s: float) -> Boxes:
        found = [(*one.box, 0.9, one.class_id) for one in world.objects(frame)]
        return boxes(*(one for one in found if one[2] > one[0] and one[3] > one[1]))

    source = look(str(path))
    return Made(source, index_video(source, DecodeConfig()), scene)


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Made:
    return make(tmp_path_factory.mktemp("videos") / "a.mp4", 3)


def config(model: Path, length: int = 10, **tracker: object) -> Config:
    """Masks of random weights are not where the boxes are, which is no matter here."""
    loose = {"match_iou": 0.001, "duplicate_iou": 1.0, "new_frames": 1, "most_objects": 2}
    data = {
        "clip": {"length": length},
        "detector": {"backend": "transformers", "model": "builtin:detector"},
        "tracker": {"backend": "sam2", "model": str(model), **loose, **tracker},
    }
    return parse_config(data, where="test")


def detected(output: Path, chosen: Config, made: Made) -> Job:
    job = make_job(output, chosen)
    assert detect(job, made.index, made.scene, source=made.source) > 1
    return job


def assert_tidy(output: object) -> None:
    assert [name for name in folder_at(str(output)).folders("") if name.startswith("_")] == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory, model, video) -> list[dict[str, object]]:
    """The rows of a pass that nothing cut."""
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch:
        from pipeline.sources.plan import Grid

        patch.setattr("pipeline.engine.job.Grid", lambda **s: Grid(**s, shard_frames=SHARD_FRAMES))
        output = tmp_path_factory.mktemp("whole") / "out"
        job = detected(output, config(model), video)
        stats = track(job, video.index)
    assert (stats.tracked, stats.rows["tracks"]) == (1, len(rows(job)))
    assert verify(job.output).sound
    assert_tidy(output)
    return rows(job)


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
        patch.setattr(Sam2Follower, "_state", _cut_at(2))
        with pytest.raises(KeyboardInterrupt):
            track(job, video.index)
    for file in (tmp_path / "out" / "_tracks").rglob("*.safetensors"):
        file.unlink() if how == "gone" else file.write_bytes(file.read_bytes()[:-1])
    assert track(job, video.index).tracked == 1
    assert rows(job) == whole
    assert verify(job.output).sound
    assert_tidy(tmp_path / "out")


def _cut_at(shard: int):  # type: ignore[no-untyped-def]
    state, asked = Sam2Follower._state, []

    def cut(self, tracker, is_last):  # type: ignore[no-untyped-def]
        asked.append(1)
        if len(asked) > shard:
            raise KeyboardInterrupt
        return state(self, tracker, is_last)

    return cut


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


def test_a_file_that_is_gone_is_a_failure_until_it_is_tried_again(tmp_path, model):
    path = tmp_path / "a.mp4"
    made = make(path, 4)
    job = detected(tmp_path / "out", config(model), made)
    other = shutil.move(path, tmp_path / "elsewhere.mp4")
    due = {bytes.fromhex(made.index.video_id)}

    def again(**options: bool) -> tuple[RunStats, int]:
        stats = RunStats()
        spread = follow_here(job, "cpu")
        given_up = track_videos(job, due, set(), Budget(), stats, spread, **options)
        return stats, len(given_up)

    stats, given_up = again()
    assert (stats.tracks_failed, given_up) == (1, 1)
    (failure,) = Ledger(job.output).table("failures").to_pylist()
    assert failure["analysis"] == job.tracks.fingerprint
    assert (failure["uri"], failure["first_frame"], failure["last_frame"]) == (str(path), 0, 39)
    assert "No such file" in failure["reason"]
    assert rows(job) == []
    assert verify(job.output).sound
    stats, given_up = again()
    assert (stats.tracks_failed, given_up) == (1, 0)
    assert Ledger(job.output).table("failures").num_rows == 1
    shutil.move(other, path)
    stats, given_up = again(retry_failed=True)
    assert (stats.tracks_failed, stats.tracked, given_up) == (0, 1, 0)
    assert len(rows(job)) > FRAMES
    assert again()[0].tracks_failed == 0


def test_a_prompt_by_hand_begins_a_track(tmp_path, model, video):
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text(
        "- {video: a.mp4, frame: 30, class: red circle, box: [20, 20, 60, 60]}\n"
        "- {video: 'other*', frame: 5, class: red circle, box: [20, 20, 60, 60]}\n"
    )
    job = make_job(tmp_path / "out", config(model, prompts=str(prompts), new_score=1.0))
    detect(job, video.index, video.scene, source=video.source)
    track(job, video.index)
    found = rows(job)
    assert {row["track_id"] for row in found} == {1}
    assert min(row["frame_index"] for row in found) == 30
    assert {row["class_name"] for row in found} == {"red circle"}
    other = tmp_path / "others.yaml"
    other.write_text(prompts.read_text().replace("[20, ", "[21, "))
    changed = make_job(tmp_path / "out", config(model, prompts=str(other), new_score=1.0))
    assert changed.tracks.fingerprint != job.tracks.fingerprint


def test_a_prompt_in_a_frame_that_is_not_sampled_is_said(tmp_path, model, video):
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("- {video: a.mp4, frame: 70, class: red circle, box: [2, 2, 6, 6]}\n")
    job = detected(tmp_path / "out", config(model, prompts=str(prompts)), video)
    (note,) = track(job, video.index).notes
    assert "frame 70 has a prompt, and is not sampled" in note


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


@pytest.mark.parametrize(
    ("tracker", "decode", "error", "words"),
    [
        ({"model": "/no/such"}, "pyav", ConfigError, "/no/such"),
        ({"model": "builtin:detector"}, "pyav", ConfigError, "cannot track; sam2_video can"),
        ({}, "opencv", ConfigError, "needs decode.backend: pyav"),
        ({"prompts": "/no/such.yaml"}, "pyav", UsageError, "/no/such.yaml: cannot read"),
        ({"num_maskmem": 40}, "pyav", ConfigError, "tracker.num_maskmem = 40"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_done(
    tmp_path, model, video, tracker, decode, error, words
):
    data = config(model).model_dump(exclude_unset=True)
    data["tracker"] |= tracker
    data["decode"] = {"backend": decode}

    def tracked() -> None:
        job = make_job(tmp_path / "out", parse_config(data, where="test"))
        detect(job, video.index, video.scene, source=video.source)
        track(job, video.index)

    with pytest.raises(error, match=words):
        tracked()
    assert rows_of_tracks(tmp_path / "out") == 0


def rows_of_tracks(output: Path) -> int:
    return Ledger(output).table("tracks").num_rows if output.exists() else 0


def test_tracks_that_come_out_otherwise_are_not_mixed_with_those_that_landed(
    tmp_path, model, video, monkeypatch
):
    """Their state is lost, and this machine does not compute to the bit what the other did."""
    job = detected(tmp_path / "out", config(model), video)
    with monkeypatch.context() as patch:
        patch.setattr(Sam2Follower, "_state", _cut_at(2))
        with pytest.raises(KeyboardInterrupt):
            track(job, video.index)
    shutil.rmtree(tmp_path / "out" / "_tracks")
    before = rows(job)
    follow = Sam2Follower.follow

    def otherwise(self, *arguments):
        made = follow(self, *arguments)
        ids = pa.array([number + 1 for number in made.rows["track_id"].to_pylist()], pa.int32())
        return replace(made, rows={**made.rows, "track_id": ids})

    monkeypatch.setattr(Sam2Follower, "follow", otherwise)
    stats = track(job, video.index)
    assert (stats.tracks_failed, rows(job)) == (1, before)
    (failure,) = Ledger(job.output).table("failures").to_pylist()
    assert "made again here they come out otherwise" in failure["reason"]


def test_a_video_that_another_run_follows_is_left_to_it(tmp_path, model, video):
    job = detected(tmp_path / "out", config(model), video)
    mine, other = (Lease(job.output, name) for name in ("mine", "other"))
    assert other.take(f"{job.tracks.fingerprint} {video.index.video_id}")
    due, stats = {bytes.fromhex(video.index.video_id)}, RunStats()
    track_videos(job, due, set(), Budget(), stats, follow_here(job, "cpu"), mine)
    assert (stats.tracked, stats.left.other_run, rows(job)) == (0, 1, [])
    mine.close()
    other.close()


def test_a_reason_that_is_nobodys_own_stops_the_run_and_is_recorded_of_none(
    tmp_path, model, monkeypatch
):
    """As where another process fills the GPU."""
    videos = [make(tmp_path / f"{seed}.mp4", seed, 12) for seed in range(3)]
    chosen = config(model).model_dump(exclude_unset=True) | {"engine": {"same_failures": 2}}
    job = make_job(tmp_path / "out", parse_config(chosen, where="test"))
    for made in videos:
        detect(job, made.index, made.scene, source=made.source)

    def fails(*_: object) -> None:
        raise RuntimeError("no kernel for this device")

    monkeypatch.setattr(Sam2Follower, "_state", fails)
    with pytest.raises(RunAborted, match="2 videos in a row failed for one reason"):
        track(job, *(made.index for made in videos))
    assert Ledger(job.output).table("failures").num_rows == 0


def test_a_prompt_that_cannot_be_of_its_video_fails_that_video_alone(tmp_path, model, video):
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("- {video: a.mp4, frame: 3, class: red circle, box: [500, 500, 900, 600]}\n")
    job = detected(tmp_path / "out", config(model, prompts=str(prompts)), video)
    other = make(tmp_path / "b.mp4", 9, 12)
    detect(job, other.index, other.scene, source=other.source)
    stats = track(job, video.index, other.index)
    assert (stats.tracked, stats.tracks_failed) == (1, 1)
    (failure,) = Ledger(job.output).table("failures").to_pylist()
    assert (failure["stage"], failure["attempts"]) == ("prompts", 1)
    assert failure["reason"].startswith("frame 3: ")


def test_prompts_that_change_while_the_run_goes_on_end_it(tmp_path, model, video):
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("- {video: a.mp4, frame: 3, class: red circle, box: [2, 2, 9, 6]}\n")
    job = detected(tmp_path / "out", config(model, prompts=str(prompts)), video)
    prompts.write_text("# a comment\n" + prompts.read_text())
    same = make_job(tmp_path / "out", config(model, prompts=str(prompts)))
    assert same.tracks.fingerprint == job.tracks.fingerprint
    prompts.write_text(prompts.read_text().replace("[2, 2, ", "[1, 2, "))
    with pytest.raises(RunAborted, match=r"tracker\.prompts has changed"):
        track(job, video.index)
    assert rows(job) == []
