from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.analyzers.resizing import _by_whole_numbers, resize
from tests.analyzers import tiny

MODES = ("bilinear", "bicubic")
SIDES = [(40, 50), (90, 50), (40, 160), (97, 333), (180, 320), (1, 1), (91, 161)]


def pillow(frames: np.ndarray, target: tuple[int, int], mode: str) -> np.ndarray:
    """uint8 (N, 3, height, width), frame by frame."""
    image = pytest.importorskip("PIL.Image", reason="the reference")
    resample = getattr(image.Resampling, mode.upper())
    resized = [image.fromarray(frame).resize(target[::-1], resample) for frame in frames]
    return np.stack([np.asarray(picture) for picture in resized]).transpose(0, 3, 1, 2)


def tensor(frames: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(frames).permute(0, 3, 1, 2)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("target", SIDES)
def test_equals_pillow_to_the_level(
    mode: Any, target: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU and, by the arithmetic of a GPU done on the CPU, in chunks of two frames."""
    monkeypatch.setattr("pipeline.analyzers.resizing.CHUNK_PIXELS", 2 * 160 * 90)
    noise = np.random.default_rng(0).integers(0, 256, (2, 90, 160, 3), dtype=np.uint8)
    frames = np.concatenate([tiny.scene(3, 160, 90), noise])
    expected = pillow(frames, target, mode)
    np.testing.assert_array_equal(resize(tensor(frames), target, mode, exact=True), expected)
    np.testing.assert_array_equal(_by_whole_numbers(tensor(frames), target, mode), expected)


@settings(max_examples=60, deadline=None)
@given(
    have=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    target=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    mode=st.sampled_from(MODES),
    seed=st.integers(0, 9),
)
def test_any_size(have: Any, target: Any, mode: Any, seed: int) -> None:
    # Black and white beside each other: bicubic overshoots, and has to be cut as Pillow does.
    frames = 255 * np.random.default_rng(seed).integers(0, 2, (1, *have, 3), dtype=np.uint8)
    expected = pillow(frames, target, mode)
    np.testing.assert_array_equal(_by_whole_numbers(tensor(frames), target, mode), expected)


@pytest.mark.parametrize("mode", MODES)
def test_nearly_equals_pillow_fast(mode: Any) -> None:
    frames = tiny.scene(3, 320, 180)
    got = resize(tensor(frames), (56, 100), mode, exact=False).numpy().astype(int)
    apart = np.abs(got - pillow(frames, (56, 100), mode))
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.02


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("target", [(180, 320), (9, 16), (300, 500), (181, 77)])
def test_nearest_equals_pillow(exact: bool, target: tuple[int, int]) -> None:
    frames = tiny.scene(2, 320, 180)
    got = resize(tensor(frames), target, "nearest", exact=exact)
    np.testing.assert_array_equal(got, pillow(frames, target, "nearest"))
