"""Sizes of pictures that are made smaller."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.scaling import scaled_size

SIDES = st.integers(1, 20_000)


@given(SIDES, SIDES, st.integers(16, 2000))
def test_a_picture_keeps_its_shape_and_never_grows(width, height, side):
    new_width, new_height = scaled_size(width, height, side)
    assert new_width <= width
    assert new_height <= height
    if min(width, height) <= side:
        assert (new_width, new_height) == (width, height)
        return
    assert min(new_width, new_height) == side
    # Neither side is more than half a pixel from where it would be.
    scale = side / min(width, height)
    assert abs(new_width - width * scale) <= 0.5 + 1e-6
    assert abs(new_height - height * scale) <= 0.5 + 1e-6


@given(SIDES, SIDES, st.integers(16, 2000))
def test_turned_before_or_after_it_is_the_same(width, height, side):
    assert scaled_size(width, height, side)[::-1] == scaled_size(height, width, side)


def test_common_sizes():
    assert scaled_size(1280, 720, 256) == (455, 256)
    assert scaled_size(1080, 1920, 256) == (256, 455)
    assert scaled_size(320, 240, 256) == (320, 240)
