"""What is wrong with a video, a prompt or a model, as the pass of SAM 2 tells it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.config_file import parse_config
from pipeline.engine.budget import Budget
from pipeline.engine.stats import RunStats
from pipeline.errors import ConfigError, RunAborted, UsageError
from pipeline.ledger.reader import Ledger
from pipeline.ledger.verify import verify
from pipeline.tracks.sam2_pass import Sam2Follower
from pipeline.tracks.spreads import follow_here
from pipeline.tracks.track_pass import track_videos
from tests.tracks.made import detect, make_job, rows, track
from tests.tracks.sam2_videos import (
    FRAMES,
    config,
    cut_at,
    detected,
    make,
)

pytestmark = pytest.mark.usefixtures("short_shards")


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


def test_a_prompt_for_no_video_is_said(tmp_path, model, video):
    prompts = tmp_path / "prompts.yaml"
    rows = [(name, 3) for name in ("a.mp4", "b*.mp4", "/elsewhere/a.mp4", "b*.mp4")]
    prompts.write_text(
        "".join(
            f"- {{video: '{name}', frame: {frame}, class: red circle, box: [2, 2, 6, 6]}}\n"
            for name, frame in rows
        )
    )
    job = detected(tmp_path / "out", config(model, prompts=str(prompts)), video)
    assert list(track(job, video.index).notes) == [
        "prompts for b*.mp4: the output has no such video",
        "prompts for /elsewhere/a.mp4: the output has no such video",
    ]


@pytest.mark.parametrize(
    ("tracker", "decode", "error", "words"),
    [
        ({"model": "/no/such"}, "pyav", ConfigError, "/no/such"),
        ({"model": "builtin:detector"}, "pyav", ConfigError, "cannot track; sam2_video, sam3"),
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
        patch.setattr(Sam2Follower, "_state", cut_at(2))
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
