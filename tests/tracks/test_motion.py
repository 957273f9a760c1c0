"""The clock of a video."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.tracks.motion import clock_of
from tests.tracks.made import make_index


def test_the_nominal_rate_is_that_of_most_frames():
    clock = clock_of(make_index(100, steps=(3000, 3000, 3000, 12000)))
    assert clock.frames_per_s == pytest.approx(30.0)
    assert clock.seconds[:5] == pytest.approx([0, 1 / 30, 2 / 30, 0.1, 0.1 + 12000 / 90000])


@pytest.mark.parametrize("pts", [[0, 0, 0, 0], [0, 3000, 2000, 9000]])
def test_pts_that_do_not_ascend_are_counted_instead(pts):
    index = replace(make_index(4), pts=np.array(pts, np.int64), exact_pts=False, duration_s=2.0)
    clock = clock_of(index)
    assert clock.frames_per_s == 2.0
    assert clock.seconds.tolist() == [0.0, 0.5, 1.0, 1.5]


def test_a_single_frame_has_a_time():
    index = replace(make_index(1), duration_s=0.0)
    assert clock_of(index).frames_per_s == 30.0
    assert clock_of(index).seconds.tolist() == [0.0]
