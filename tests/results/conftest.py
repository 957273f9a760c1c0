"""What the tests of results share."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config_file import parse_config
from pipeline.demo.video import variable_pts, write_video
from pipeline.demo.world import World
from pipeline.runner import run
from tests.results.chromium import chromium as chromium
from tests.results.rendering import COUNT, FORMS
from tests.videos import make


@pytest.fixture(scope="session")
def boxed(tmp_path_factory) -> Path:
    """A demo video of uneven frame rate, `demo.mp4`, every third frame of which the demo's
    detector saw; the tables in `out`."""
    folder = tmp_path_factory.mktemp("boxed")
    pts, unit = variable_pts(30, seed=3)
    world = World(4, 256, 160, frame_count=30, times_s=[float(p * unit) for p in pts])
    write_video(folder / "demo.mp4", world, pts=pts, time_base=unit, gop=10, b_frames=2)
    data = {
        "detector": {"backend": "transformers", "model": "builtin:detector"},
        "sampling": {"stride": 3},
    }
    config = parse_config(data, where="test")
    run(config, [str(folder / "demo.mp4")], folder / "out", engine="local")
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """Videos in the forms that trip times, and a run over them that samples every eighth frame."""
    folder = tmp_path_factory.mktemp("render")
    for name, settings in FORMS.items():
        make(folder / "videos" / name, COUNT, **settings)
    (folder / "videos" / "again").mkdir()
    make(folder / "videos" / "again" / "plain.mp4", 12)
    config = parse_config({"sampling": {"stride": 8}}, where="test")
    run(config, [str(folder / "videos")], folder / "out", engine="local")
    return folder


@pytest.fixture(scope="session")
def tracked(tmp_path_factory) -> Path:
    """Three videos of the demo world, mean colours as embeddings, and tracks, which a second run
    has made."""
    folder = tmp_path_factory.mktemp("tracked")
    (folder / "videos").mkdir()
    for seed, count in enumerate((40, 24, 32)):
        path = folder / "videos" / f"{'abc'[seed]}.mp4"
        write_video(path, World(seed, frame_count=count), fps=30)
    data = {
        "detector": {"backend": "transformers", "model": "builtin:detector"},
        "embedder": {"backend": "probe"},
        "sampling": {"stride": 2},
    }
    for more in ({}, {"tracker": {"backend": "bytetrack"}}):
        config = parse_config({**data, **more}, where="test")
        run(config, [str(folder / "videos")], folder / "out", engine="local")
    return folder
