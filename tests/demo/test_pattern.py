import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.demo.pattern import MAX_INDEX, crc8, draw_index, read_index

indices = st.integers(0, MAX_INDEX)


@given(index=indices, width=st.integers(32, 200), height=st.integers(24, 150), seed=st.integers(0))
@settings(max_examples=150, deadline=None)
def test_every_index_reads_back_at_every_size(
    index: int, width: int, height: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    draw_index(frame, index)
    assert read_index(frame) == index


@given(index=indices, seed=st.integers(0))
@settings(max_examples=50, deadline=None)
def test_noise_and_dimming_are_survived(index: int, seed: int) -> None:
    frame = np.full((160, 256, 3), 120, dtype=np.uint8)
    draw_index(frame, index)
    noise = np.random.default_rng(seed).normal(0, 25, frame.shape)
    assert read_index(np.clip(frame * 0.7 + 20 + noise, 0, 255).astype(np.uint8)) == index


@given(index=indices, bits=st.integers(1, (1 << 32) - 1))
@settings(max_examples=200, deadline=None)
def test_a_wrong_strip_is_never_read_as_its_neighbour(index: int, bits: int) -> None:
    """Up to two flipped cells are always noticed: the CRC's distance is four up to 119 bits."""
    if bin(bits).count("1") > 3:
        bits &= -bits
    wrong = ((index << 8) | crc8(index)) ^ bits
    assert crc8(wrong >> 8) != wrong & 0xFF


@pytest.mark.parametrize("scale", [0.5, 2, 3])
def test_a_scaled_picture_reads(scale: float) -> None:
    import cv2

    frame = np.full((160, 256, 3), 90, dtype=np.uint8)
    draw_index(frame, 123_456)
    scaled = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    assert read_index(np.asarray(scaled, dtype=np.uint8)) == 123_456


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_frame_has_no_index(level: int) -> None:
    assert read_index(np.full((160, 256, 3), level, dtype=np.uint8)) is None


def test_a_picture_displayed_the_wrong_way_has_no_index() -> None:
    frame = np.full((160, 256, 3), 120, dtype=np.uint8)
    draw_index(frame, 77)
    for turns in (1, 2, 3):
        assert read_index(np.rot90(frame, turns)) is None


def test_noise_has_no_index() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (200, 48, 64, 3), dtype=np.uint8)
    assert [read_index(frame) for frame in frames] == [None] * 200


@pytest.mark.parametrize("index", [-1, MAX_INDEX + 1])
def test_an_index_out_of_range_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match="24 bits"):
        draw_index(np.zeros((48, 64, 3), dtype=np.uint8), index)
