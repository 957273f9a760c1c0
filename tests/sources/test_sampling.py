"""Which frames are sampled: against a slow reading of the rule in exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.sources.sampling import at_rate

ascending_pts = st.lists(st.integers(1, 10_000), min_size=0, max_size=60).flatmap(
    lambda steps: st.integers(-5_000, 2**40).map(
        lambda first: np.cumsum([first, *steps]).astype(np.int64)
    )
)
time_bases = st.sampled_from([Fraction(1, 1000), Fraction(1001, 30000), Fraction(1, 10**9)])
rates = st.sampled_from([Fraction(1), Fraction(30000, 1001), Fraction(1, 7), Fraction(999)])


def nearest_to_ticks(pts: np.ndarray, time_base: Fraction, fps: Fraction) -> list[int]:
    """The rule as it is written: each tick up to the last frame takes its nearest frame."""
    times = [(int(p) - int(pts[0])) * time_base for p in pts]
    chosen = set()
    tick = 0
    while Fraction(tick) / fps <= times[-1]:
        at = Fraction(tick) / fps
        chosen.add(min(range(len(times)), key=lambda i: (abs(times[i] - at), i)))
        tick += 1
    return sorted(chosen)


@given(ascending_pts, time_bases, rates)
@example(np.array([0, 33, 67, 100, 133, 167], np.int64), Fraction(1, 1000), Fraction(2997, 100))
def test_each_tick_takes_its_nearest_frame(pts, time_base, fps):
    if (int(pts[-1]) - int(pts[0])) * time_base * fps > 5_000:
        return  # The slow reading would take too long.
    assert at_rate(pts, time_base, fps).tolist() == nearest_to_ticks(pts, time_base, fps)


@pytest.mark.parametrize(
    ("rate", "expected_step"), [(Fraction(24), 1), (Fraction(12), 2), (Fraction(1), 24)]
)
def test_constant_rate_gives_equal_steps(rate, expected_step):
    pts = np.arange(240, dtype=np.int64) * 512  # 24 frames/s at 1/12288
    assert at_rate(pts, Fraction(1, 12288), rate).tolist() == list(range(0, 240, expected_step))


def test_millisecond_rounding_loses_no_frame():
    # Matroska keeps 29.97 frames/s as 0, 33, 67, 100 ...: asking for that rate means every frame.
    pts = np.array([round(i * 1001 / 30) for i in range(5000)], dtype=np.int64)
    assert len(at_rate(pts, Fraction(1, 1000), Fraction(30000, 1001))) == 5000


def test_products_beyond_64_bits_stay_exact():
    hour_ns = np.arange(0, 10 * 3600 * 10**9, 3600 * 10**9, dtype=np.int64)
    assert at_rate(hour_ns, Fraction(1, 10**9), Fraction(30000, 1001)).tolist() == list(range(10))
    assert at_rate(hour_ns, Fraction(1, 10**9), Fraction(1, 7200)).tolist() == [0, 2, 4, 6, 8]


def test_gap_is_sampled_once():
    pts = np.array([0, 1, 2, 100, 101], dtype=np.int64)
    assert at_rate(pts, Fraction(1), Fraction(1)).tolist() == [0, 1, 2, 3, 4]


def test_no_frames():
    assert at_rate(np.empty(0, np.int64), Fraction(1), Fraction(1)).tolist() == []
