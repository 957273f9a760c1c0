"""An output of four files that the tests of the page share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from pipeline.config_file import parse_config
from pipeline.demo.video import variable_pts, write_video
from pipeline.demo.world import World
from pipeline.ledger.reader import Ledger
from pipeline.runner import run
from tests.results.chromium import chromium as chromium
from tests.serve.clients import client_of
from tests.videos import make

COUNT = 60
STRIDE = 2


@dataclass(frozen=True)
class Corpus:
    """The tables, and ids of what is in them."""

    output: Path
    videos: Path
    ids: dict[str, str]
    """By file name; those that could be read."""

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.output)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Corpus:
    """Every second frame was looked at by the demo's detector and CLIP, and tracked.

    world.mp4 is of uneven frame rate and does not begin at 0; old.mkv holds what browsers do not
    play; part.mkv has lost its end, and noise.mp4 is no video.
    """
    folder = tmp_path_factory.mktemp("served") / "some where"
    videos = folder / "videos"
    videos.mkdir(parents=True)
    ticks, unit = variable_pts(COUNT, seed=3)
    pts = [tick + 700 for tick in ticks]
    world = World(4, 256, 160, frame_count=COUNT, times_s=[float(t * unit) for t in ticks])
    write_video(videos / "world.mp4", world, pts=pts, time_base=unit, gop=20, b_frames=2)
    make(videos / "old.mkv", 30, codec="mpeg2video", gop=10, fps=25)
    part = make(videos / "part.mkv", 60, gop=12)
    os.truncate(part, part.stat().st_size // 2)
    (videos / "noise.mp4").write_bytes(b"<script>alert(1)</script>" * 40)
    data = {
        "detector": {"backend": "transformers", "model": "builtin:detector"},
        "embedder": {"backend": "clip", "model": "builtin:clip"},
        "tracker": {"backend": "bytetrack"},
        "sampling": {"stride": STRIDE},
    }
    run(parse_config(data, where="test"), [str(videos)], folder / "out", engine="local")
    rows = Ledger(folder / "out").videos().to_pylist()
    ids = {Path(row["uri"]).name: row["video_id"] for row in rows if row["video_id"]}
    return Corpus(folder / "out", videos, ids)


@pytest.fixture(scope="session")
def client(corpus: Corpus) -> TestClient:
    return client_of(corpus.output)


@pytest.fixture(scope="session")
def world(corpus: Corpus) -> str:
    return corpus.ids["world.mp4"]
