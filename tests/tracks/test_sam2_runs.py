"""SAM 2 in whole runs: both engines, a worker that dies, and what a user is told."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pytest

from pipeline.cli import invoke
from pipeline.config import Config
from pipeline.config_file import parse_config
from pipeline.demo.video import write_video
from pipeline.demo.world import World
from pipeline.engine.budget import Budget
from pipeline.engine.stats import RunStats
from pipeline.ledger.folder import folder_at
from pipeline.ledger.reader import Ledger
from pipeline.ledger.verify import verify
from pipeline.preview import plan
from pipeline.results.boxes import BoxChoice, Boxes
from pipeline.runner import make_job, run
from pipeline.summary import RunSummary
from pipeline.tracks.spreads import follow_here
from pipeline.tracks.track_pass import track_videos
from tests.engine.test_faults import Killer
from tests.tracks.sam2_made import random_sam2

FRAMES = {"a.mp4": 24, "b.mp4": 6, "c.mp4": 4}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    random_sam2(folder)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for seed, (name, count) in enumerate(FRAMES.items()):
        write_video(folder / name, World(seed, 128, 80, frame_count=count), gop=10)
    return folder


def data(model: Path, **engine: object) -> dict[str, object]:
    """Masks of random weights are not where the boxes are, which is no matter here."""
    loose = {"match_iou": 0.001, "duplicate_iou": 1.0, "new_frames": 1, "most_objects": 2}
    return {
        "detector": {"backend": "transformers", "model": "builtin:detector"},
        "tracker": {"backend": "sam2", "model": str(model), **loose},
        "engine": engine,
    }


def config(model: Path, **engine: object) -> Config:
    return parse_config(data(model, **engine), where="test")


def rows(output: Path) -> list[dict[str, object]]:
    return Ledger(output).tracks().drop_columns(["analysis", "run_id"]).to_pylist()


def assert_whole(output: Path) -> None:
    assert verify(str(output)).sound
    assert Ledger(output).table("failures").num_rows == 0
    found = rows(output)
    assert {row["video_id"] for row in found} == {
        row["video_id"] for row in Ledger(output).videos().to_pylist()
    }
    assert [name for name in folder_at(str(output)).folders("") if name.startswith("_")] == []


@pytest.fixture(scope="module")
def detected(corpus, model, tmp_path_factory) -> Path:
    """An output that has detections, and no tracks."""
    output = tmp_path_factory.mktemp("detected") / "out"
    without = config(model).model_copy(update={"tracker": None})
    assert run(without, [str(corpus)], output, engine="local").exit_code == 0
    return output


def tracked(detected: Path, output: Path, chosen: Config, corpus: Path, engine: str) -> RunSummary:
    """The same once a run with a tracker has come by."""
    shutil.copytree(detected, output)
    return run(chosen, [str(corpus)], output, engine=engine)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def timed(detected, corpus, model, tmp_path_factory) -> tuple[Path, float]:
    """The tables of a run in one process, and the seconds that it took."""
    output, started = tmp_path_factory.mktemp("local") / "out", time.monotonic()
    summary = tracked(detected, output, config(model), corpus, "local")
    assert (summary.exit_code, summary.tracked, summary.tracks_failed) == (0, 3, 0)
    return output, time.monotonic() - started


@pytest.fixture(scope="module")
def local(timed) -> Path:
    return timed[0]


def test_a_later_run_has_nothing_to_do(local, corpus, model):
    assert_whole(local)
    assert plan(config(model), [str(corpus)], str(local)).analyses == {}
    assert run(config(model), [str(corpus)], local, engine="local").did_nothing


def test_ray_gives_the_tracks_of_one_process(ray_here, detected, corpus, model, tmp_path):
    """Two actors, each with one of the two CPUs."""
    chosen = config(model, analyzers=2)
    summary = tracked(detected, tmp_path / "out", chosen, corpus, "ray")
    assert (summary.exit_code, summary.tracked) == (0, 3)
    assert_whole(tmp_path / "out")
    job = make_job(chosen, str(shutil.copytree(detected, tmp_path / "alone")))
    due = {bytes.fromhex(row["video_id"]) for row in Ledger(detected).videos().to_pylist()}
    follow = follow_here(job, "cpu", threads=1)
    assert track_videos(job, due, set(), Budget(), RunStats(), follow) == []
    assert rows(tmp_path / "out") == rows(tmp_path / "alone")


def test_a_process_that_is_stuck_is_replaced_and_costs_no_row(
    ray_here, detected, local, timed, corpus, model, tmp_path
):
    # However busy the machine is, a shard that is followed is not taken for one that is stuck.
    chosen = config(model, analyzers=1, shard_timeout=max(30.0, 5 * timed[1]))
    with Killer(1, titles=("TrackActor.follow",), how=signal.SIGSTOP) as killer:
        summary = tracked(detected, tmp_path / "out", chosen, corpus, "ray")
    assert len(killer.killed) == 1
    assert (summary.exit_code, summary.tracked) == (0, 3)
    assert rows(tmp_path / "out") == rows(local)
    assert_whole(tmp_path / "out")


def test_a_damaged_model_is_one_line(corpus, model, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in model.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    path = tmp_path / "c.json"
    path.write_text(json.dumps(data(broken)))
    arguments = ["run", str(path), str(corpus / "c.mp4"), "-o", str(tmp_path / "o")]
    code, said = invoke([*arguments, "--engine", "local"])
    assert code == 2
    assert str(broken) in said
    assert "the model cannot be loaded" in said
    assert "\n" not in said


def test_masks_of_tracks_are_there_to_be_drawn(local, corpus):
    ledger = Ledger(local)
    video_id = ledger.video_id(str(corpus / "a.mp4"))
    rows = Boxes(ledger, video_id, BoxChoice(tracks=True)).on(3)
    assert rows
    assert all(row["mask"]["size"] == [80, 128] and row["track_id"] > 0 for row in rows)
    bare = Boxes(ledger, video_id, BoxChoice(tracks=True, masks=False)).on(3)
    assert all("mask" not in row for row in bare)
