from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.analyzers.frames import FrameBatch
from pipeline.analyzers.probe import ProbeEmbedder, mean_colours
from pipeline.clip_pixels import Pixels
from tests.analyzers.tiny import rgb_pixels
from tests.analyzers.yuv import as_rgb, random_yuv


def expected(rgb: np.ndarray) -> np.ndarray:
    """The definition, cell by cell, in float64."""
    sampled = rgb[:, ::8, ::8].astype(np.float64)
    rows, columns = sampled.shape[1:3]
    out = np.empty((len(rgb), 9, 16, 3))
    for row in range(9):
        top = row * rows // 9
        bottom = max(top + 1, (row + 1) * rows // 9)
        for column in range(16):
            left = column * columns // 16
            right = max(left + 1, (column + 1) * columns // 16)
            out[:, row, column] = sampled[:, top:bottom, left:right].mean((1, 2)) / 255
    return out.reshape(len(rgb), -1)


def test_cells_show_the_colours_that_lie_there() -> None:
    frame = np.zeros((1, 720, 1280, 3), dtype=np.uint8)
    frame[0, 80:160, 240:320] = (255, 128, 64)
    grid = mean_colours(rgb_pixels(frame)).reshape(9, 16, 3)
    assert grid[1, 3].tolist() == pytest.approx([1, 128 / 255, 64 / 255])
    assert grid.sum() == pytest.approx(grid[1, 3].sum())


@settings(max_examples=40, deadline=None)
@given(width=st.integers(1, 300), height=st.integers(1, 200), seed=st.integers(0, 99))
def test_any_size_as_rgb(width: int, height: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    np.testing.assert_allclose(mean_colours(rgb_pixels(frames)), expected(frames), atol=1e-6)


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("bt709", [False, True])
@pytest.mark.parametrize(("width", "height"), [(64, 48), (2, 2), (322, 178), (1280, 720)])
def test_yuv_agrees_with_its_rgb(width: int, height: int, bt709: bool, full_range: bool) -> None:
    yuv = random_yuv(2, width, height, bt709=bt709, full_range=full_range)
    rgb = mean_colours(rgb_pixels(as_rgb(yuv)))
    np.testing.assert_allclose(mean_colours(yuv), rgb, atol=1 / 255)


def test_table() -> None:
    yuv = random_yuv(3, 64, 48)
    table = ProbeEmbedder().analyze(FrameBatch(yuv))
    assert table.column("local").to_pylist() == [0, 1, 2]
    embeddings = table.column("embedding").to_pylist()
    np.testing.assert_allclose(embeddings, mean_colours(yuv))


def test_read_only_frames_stay_as_they_are() -> None:
    yuv = random_yuv(1, 64, 48)
    data = yuv.data.copy()
    data.flags.writeable = False
    mean_colours(Pixels(data, "yuv420p", 64, 48))
    assert (data == yuv.data).all()


def test_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "from pipeline.config import Config, ProbeConfig\n"
        "from pipeline.analyzers.registry import build_analyzers\n"
        "probe, = build_analyzers(Config(embedder=ProbeConfig(backend='probe')))\n"
        "probe.setup('cpu')\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
