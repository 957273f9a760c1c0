"""What the shapes of a world move over: smooth noise of low saturation that drifts, and grain."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

_GRID = (6, 9)  # knots of the noise, rows and columns
_GRAIN = 7  # grey levels of film grain; few, because grain is what costs bits

Image = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]


class Background:
    """That of one world, the same whatever its objects.

    Args:
        seed: the world's.
        width, height: of the picture, in pixels.
    """

    def __init__(self, seed: int, width: int, height: int) -> None:
        self._width = width
        self._height = height
        rng = np.random.default_rng([seed, 1])
        self._knot_rate = rng.uniform(0.2, 0.9, (*_GRID, 3))
        self._knot_phase = rng.uniform(0, 2 * math.pi, (*_GRID, 3))
        self._base_grey = rng.uniform(88, 150)
        self._contrast = rng.uniform(10, 38)

    def at(self, time_s: float, grain_seed: int) -> Image:
        """The background at a time in seconds: uint8 RGB (height, width, 3), the caller's own."""
        knots = np.sin(self._knot_rate * time_s + self._knot_phase)
        grey = knots.mean(axis=2, keepdims=True) * 1.7
        levels = self._base_grey + self._contrast * grey + 9.0 * knots
        # A large picture is computed at a fraction of its size: the background is smooth.
        step = max(1, self._width // 320)
        rows, columns = -(-self._height // step), -(-self._width // step)
        down = _interpolation(rows, _GRID[0]) @ levels.reshape(_GRID[0], -1).astype(np.float32)
        right = _interpolation(columns, _GRID[1])
        smooth = np.matmul(right, down.reshape(rows, _GRID[1], 3)).astype(np.uint8)
        if step > 1:
            smooth = smooth.repeat(step, axis=0).repeat(step, axis=1)
        grain = _grain(self._height, self._width)
        shift_y, shift_x = (grain_seed * 37) % 64, (grain_seed * 23) % 64
        frame = smooth[: self._height, : self._width].copy()
        # The background stays below 255 - _GRAIN, so this cannot overflow.
        frame += grain[shift_y : shift_y + self._height, shift_x : shift_x + self._width]
        return frame


@lru_cache(maxsize=32)
def _interpolation(size: int, knots: int) -> FloatArray:
    """float32 (size, knots): weights of a smooth (raised cosine) interpolation between knots."""
    position = np.linspace(0, knots - 1, size)
    first = np.minimum(position.astype(int), knots - 2)
    share = (1 - np.cos(math.pi * (position - first))) / 2
    weights = np.zeros((size, knots), dtype=np.float32)
    weights[np.arange(size), first] = 1 - share
    weights[np.arange(size), first + 1] = share
    return weights


@lru_cache(maxsize=8)
def _grain(height: int, width: int) -> Image:
    """uint8 (height + 64, width + 64, 3) of grey grain, to be cut at any shift below 64."""
    rng = np.random.default_rng(0)
    grain = rng.integers(0, _GRAIN, (height + 64, width + 64, 1), dtype=np.uint8)
    return grain.repeat(3, axis=2)
