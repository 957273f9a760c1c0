"""Tracks in whole runs on real videos: both engines, later runs, and what is made of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.cli import invoke
from pipeline.config import Config
from pipeline.config_file import parse_config
from pipeline.demo.video import write_video
from pipeline.demo.world import World
from pipeline.errors import ConfigError
from pipeline.ledger.reader import Ledger
from pipeline.ledger.runs import read_runs
from pipeline.ledger.verify import verify
from pipeline.preview import plan
from pipeline.results.where import Where
from pipeline.runner import run

FRAMES = {"a.mp4": 40, "b.mp4": 24}
TRACKER = {"tracker": {"backend": "bytetrack"}}


def config(length: int = 32, **more: object) -> Config:
    data = {
        "clip": {"length": length},
        "detector": {"backend": "transformers", "model": "builtin:detector"},
        "embedder": {"backend": "probe"},
        **more,
    }
    return parse_config(data, where="test")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for seed, (name, count) in enumerate(FRAMES.items()):
        write_video(folder / name, World(seed, frame_count=count), fps=30, gop=10)
    return folder


@pytest.fixture(scope="module")
def detected(corpus, tmp_path_factory) -> Path:
    """An output that has detections, and no tracks."""
    output = tmp_path_factory.mktemp("detected") / "out"
    assert run(config(), [str(corpus)], output, engine="local").exit_code == 0
    return output


@pytest.fixture(scope="module")
def tracked(corpus, detected, tmp_path_factory) -> Path:
    """The same once a run with a tracker has come by."""
    output = tmp_path_factory.mktemp("tracked") / "out"
    shutil.copytree(detected, output)
    before = plan(config(**TRACKER), [str(corpus)], str(output))
    assert before.analyses == {"tracker": sum(FRAMES.values())}
    summary = run(config(**TRACKER), [str(corpus)], output, engine="local")
    assert (summary.tracked, summary.shards, summary.exit_code) == (2, 0, 0)
    return output


def rows(output: Path) -> list[dict[str, object]]:
    return Ledger(output).tracks().drop_columns(["analysis", "run_id"]).to_pylist()


def test_a_tracker_that_is_added_later_decodes_nothing_again(tracked, corpus):
    ledger = Ledger(tracked)
    found = rows(tracked)
    assert len({(row["video_id"], row["track_id"]) for row in found}) >= 6
    frames = {(row["video_id"], row["frame_index"]) for row in found}
    assert len(frames) == sum(FRAMES.values())
    assert verify(str(tracked)).sound
    last = read_runs(str(tracked))[-1]
    assert (last["frames"], last["exit_code"], len(last["worked"])) == (0, 0, 1)
    assert {a.name for a in ledger.analyses()} == {"frames", "detector", "embedder", "tracker"}
    again = run(config(**TRACKER), [str(corpus)], tracked, engine="local")
    assert again.did_nothing
    assert plan(config(**TRACKER), [str(corpus)], str(tracked)).analyses == {}


def test_ray_gives_the_tracks_of_the_local_engine(ray_here, corpus, tracked, tmp_path):
    one = config(7, engine={"workers": 1}, **TRACKER)
    summary = run(one, [str(corpus)], tmp_path / "out", engine="ray")
    assert (summary.tracked, summary.frames) == (2, sum(FRAMES.values()))
    assert summary.rows["tracks"] == len(rows(tmp_path / "out"))
    # Scores of a model differ in their last digits with the threads and batches that it is given.
    for one, other in zip(rows(tmp_path / "out"), rows(tracked), strict=True):
        floats = [name for name, value in one.items() if isinstance(value, float)]
        assert [one.pop(n) for n in floats] == pytest.approx(
            [other.pop(n) for n in floats], abs=0.05
        )
        assert one == other
    assert verify(str(tmp_path / "out")).sound


def test_a_summary_has_the_mean_of_its_frames_embeddings(tracked):
    ledger = Ledger(tracked)
    one = ledger.track_summaries().to_pylist()[0]
    mine = ledger.tracks(Where(video=one["video_id"])).to_pylist()
    frames = {
        row["frame_index"]
        for row in mine
        if row["track_id"] == one["track_id"] and row["state"] == "tracked"
    }
    vectors = [
        row["embedding"]
        for row in ledger.select("embeddings", Where(video=one["video_id"])).to_pylist()
        if row["frame_index"] in frames
    ]
    mean = np.sum(vectors, axis=0)
    assert len(vectors) == len(frames)
    np.testing.assert_allclose(one["embedding"], mean / np.linalg.norm(mean), atol=1e-6)


def test_tracks_are_drawn_by_colour_and_id(tracked, corpus, tmp_path, capsys):
    whole, ids = tmp_path / "boxes.mp4", tmp_path / "tracks.mp4"
    arguments = ["render", str(tracked), "a.mp4", "--no-masks"]
    assert invoke([*arguments, "-o", str(whole)]) == (0, "")
    assert invoke([*arguments, "-o", str(ids), "--tracks"]) == (0, "")
    drawn = [line for line in capsys.readouterr().out.splitlines() if line.startswith("boxes")]
    video = Ledger(tracked).video_id(str(corpus / "a.mp4"))
    mine = [row for row in rows(tracked) if row["video_id"] == video]
    assert drawn[1] == f"boxes    {sum(row['state'] == 'tracked' for row in mine):,} drawn"
    assert drawn[0] != drawn[1]
    assert whole.read_bytes() != ids.read_bytes()


def test_tracks_go_where_other_tools_read_them(tracked, tmp_path):
    found = [row for row in rows(tracked) if row["state"] == "tracked"]
    assert invoke(["export", str(tracked), "--to", "mot", "-o", str(tmp_path / "mot")]) == (0, "")
    lines = [
        line.split(",")
        for file in sorted((tmp_path / "mot").glob("*.txt"))
        for line in file.read_text().splitlines()
    ]
    assert sorted((int(line[0]) - 1, int(line[1])) for line in lines) == sorted(
        (row["frame_index"], row["track_id"]) for row in found
    )
    from trackers import load_mot_file

    (first, _) = sorted((tmp_path / "mot").glob("*.txt"))
    assert min(load_mot_file(first)) == 1
    assert invoke(["export", str(tracked), "--to", "coco", "-o", str(tmp_path / "coco")]) == (0, "")
    coco = json.loads((tmp_path / "coco" / "annotations.json").read_text())
    images = {image["id"]: image for image in coco["images"]}
    boxes = [(images[box["image_id"]], box) for box in coco["annotations"] if "track_id" in box]
    tracks = sorted((i["video_id"], i["frame_index"], box["track_id"]) for i, box in boxes)
    assert tracks == sorted((r["video_id"], r["frame_index"], r["track_id"]) for r in found)


def test_what_cannot_be_tracked_is_said_in_a_line(detected, tmp_path):
    code, line = invoke(["export", str(detected), "--to", "mot", "-o", str(tmp_path / "mot")])
    assert (code, line) == (
        2,
        f"{detected}: no tracks to export; run with a tracker in the configuration",
    )
    with pytest.raises(ConfigError, match="tracks are made of detections"):
        parse_config(TRACKER, where="test")
    with pytest.raises(ConfigError, match=r"tracker.lost_seconds = -1"):
        config(tracker={"backend": "ocsort", "lost_seconds": -1})
    with pytest.raises(ConfigError, match=r"unknown key tracker.new_score"):
        config(tracker={"backend": "ocsort", "new_score": 0.5})


def test_without_the_package_a_line_says_what_to_install(monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "trackers", None)
    file = tmp_path / "c.yaml"
    detector = {"backend": "transformers", "model": "builtin:detector"}
    file.write_text(json.dumps({**TRACKER, "detector": detector}))
    code, line = invoke(["run", str(file), str(tmp_path), "--output", str(tmp_path / "out")])
    assert code == 2
    assert line == (
        "the configuration's tracker needs 'frameledger[tracks]': pip install 'frameledger[tracks]'"
    )
