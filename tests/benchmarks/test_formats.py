"""The benchmark of frame formats, on few frames: every reader reads every fourth, all of it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import formats
from benchmarks.format_files import EVERY, FORMATS

COUNT = 24


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Levels that name the frame, so that another frame has another sum."""
    levels = np.linspace(30, 220, COUNT).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (COUNT, 120, 120, 3)).copy()


@pytest.mark.parametrize("one", FORMATS, ids=lambda one: one.name)
def test_every_fourth_frame_is_read(one, frames, tmp_path):
    path = tmp_path / one.file
    one.write(frames, path)
    found = list(one.read(path))
    expected = frames[::EVERY]
    assert len(found) == len(expected)
    for frame, right in zip(found, expected, strict=True):
        assert frame.shape == right.shape
        assert np.abs(frame.astype(int) - right).max() <= (0 if one.lossless else 3)


def test_a_reader_is_measured_in_a_process_of_its_own(frames, tmp_path):
    one = next(one for one in FORMATS if one.name == "pickle")
    large = np.repeat(frames, 40, axis=0)
    one.write(large, tmp_path / one.file)
    seconds, held, count, total = formats.measured(one, tmp_path / one.file)
    assert (count, total) == (240, int(large[::EVERY].sum(dtype=np.int64)))
    assert 0 < seconds < 60
    # All of it is held at once, in that process.
    assert large.nbytes * 0.9 < held < large.nbytes * 2.2
