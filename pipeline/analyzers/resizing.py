"""Pictures made larger or smaller: as PIL does to the level, or almost and faster.

The models' own code resizes with PIL, and what they were trained on came from it.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import torch

Resample = Literal["nearest", "bilinear", "bicubic"]

CHUNK_PIXELS = 4 * 1280 * 720
"""Pixels worked on at once where intermediates are wider than a byte: 4 frames of 720p."""

_PRECISION_BITS = 22
"""Of PIL's weights (`Resample.c`): a level has 8 of 32 bits, two are left for overshoot."""
_SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}
"""Half the width of a filter, in samples of the smaller picture."""


def resize(
    rgb: torch.Tensor, target: tuple[int, int], mode: Resample, *, exact: bool
) -> torch.Tensor:
    """uint8 (N, 3, height, width) to uint8 of `target` (height, width), antialiased.

    Args:
        exact: to PIL's level in every pixel. Otherwise one pixel in some hundreds is a level off
            on a CPU, in a tenth of PIL's time: nothing to an embedding, but some detectors move
            a score by a hundredth for it.
    """
    if target == (rgb.shape[-2], rgb.shape[-1]):
        return rgb
    if mode == "nearest":
        return _nearest(rgb, target)
    if rgb.device.type != "cpu":
        return _by_whole_numbers(rgb, target, mode)
    return _by_pil(rgb, target, mode) if exact else _by_torch(rgb, target, mode)


def _by_torch(rgb: torch.Tensor, target: tuple[int, int], mode: Resample) -> torch.Tensor:
    from torch.nn import functional

    return functional.interpolate(rgb, size=target, mode=mode, antialias=True)


def _by_pil(rgb: torch.Tensor, target: tuple[int, int], mode: Resample) -> torch.Tensor:
    from concurrent.futures import ThreadPoolExecutor

    import torch
    from PIL import Image

    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    frames = rgb.permute(0, 2, 3, 1).contiguous().numpy()
    resized = np.empty((len(frames), *target, 3), dtype=np.uint8)

    def one(number: int) -> None:
        picture = Image.fromarray(frames[number])
        resized[number] = np.asarray(picture.resize(target[::-1], filters[mode]))

    # PIL leaves the interpreter free while it works.
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(one, range(len(frames))))
    return torch.from_numpy(resized).permute(0, 3, 1, 2)


def _by_whole_numbers(rgb: torch.Tensor, target: tuple[int, int], mode: Resample) -> torch.Tensor:
    """PIL's arithmetic on a device: along one side, then along the other, to levels each time."""
    import torch

    height, width = rgb.shape[-2:]
    step = max(1, CHUNK_PIXELS // (height * width))
    sides = (2, 3) if _columns_first(height - target[0], width - target[1]) else (3, 2)
    parts = []
    for part in rgb.split(step):
        for side in sides:
            part = _along_last(part.transpose(side, 3), target[side - 2], mode).transpose(side, 3)
        parts.append(part)
    return torch.cat(parts)


def _columns_first(fewer_rows: int, fewer_columns: int) -> bool:
    """Whether the installed PIL goes down the columns before it goes along the rows.

    Source: Pillow 13, `ImagingResampleInner` in src/libImaging/Resample.c; never so before.
    """
    import PIL

    newer = int(PIL.__version__.split(".")[0]) >= 13
    return newer and fewer_rows > 0 and fewer_rows > 2 * fewer_columns


def _along_last(rgb: torch.Tensor, wanted: int, mode: Resample) -> torch.Tensor:
    """uint8 (..., have) to uint8 (..., wanted)."""
    import torch

    have = rgb.shape[-1]
    if have == wanted:
        return rgb
    starts, weights = pil_weights(have, wanted, mode)
    half = 1 << (_PRECISION_BITS - 1)
    total = torch.full((*rgb.shape[:-1], wanted), half, dtype=torch.int32, device=rgb.device)
    for tap, weight in enumerate(weights.T):
        # Beyond the edge a weight is 0, whatever sample it is multiplied with.
        columns = torch.from_numpy(np.minimum(starts + tap, have - 1)).to(rgb.device)
        factor = torch.from_numpy(np.ascontiguousarray(weight)).to(rgb.device)
        total.add_(rgb.index_select(-1, columns).to(torch.int32).mul_(factor))
    return total.bitwise_right_shift_(_PRECISION_BITS).clamp_(0, 255).to(torch.uint8)


def pil_weights(have: int, wanted: int, mode: Resample) -> tuple[np.ndarray, np.ndarray]:
    """What PIL makes each of `wanted` samples of, from `have`.

    Returns the first sample of each, int64 (wanted,), and the weights of it and those after it,
    int32 (wanted, taps) in units of 2**-22.
    Source: Pillow, `precompute_coeffs` and `normalize_coeffs_8bpc` in src/libImaging/Resample.c.
    """
    scale = have / wanted
    stretch = max(scale, 1.0)
    support = _SUPPORT[mode] * stretch
    taps = math.ceil(support) * 2 + 1
    centers = (np.arange(wanted) + 0.5) * scale
    # Python's and C's int() cut towards zero.
    starts = np.maximum((centers - support + 0.5).astype(np.int64), 0)
    ends = np.minimum((centers + support + 0.5).astype(np.int64), have)
    weights = np.zeros((wanted, taps))
    total = np.zeros(wanted)
    for tap in range(taps):
        inside = starts + tap < ends
        distance = (tap + starts - centers + 0.5) * (1.0 / stretch)
        weights[:, tap] = np.where(inside, _filter(distance, mode), 0.0)
        total += weights[:, tap]
    weights = np.where(total[:, None] != 0, weights / total[:, None], weights)
    whole = weights * (1 << _PRECISION_BITS)
    return starts, np.trunc(whole + np.where(whole < 0, -0.5, 0.5)).astype(np.int32)


def _filter(distance: np.ndarray, mode: Resample) -> np.ndarray:
    x = np.abs(distance)
    if mode == "bilinear":
        return np.where(x < 1, 1 - x, 0.0)
    a = -0.5
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _nearest(rgb: torch.Tensor, target: tuple[int, int]) -> torch.Tensor:
    import torch

    rows, columns = (
        torch.tensor(_middles(side, wanted), device=rgb.device)
        for side, wanted in zip(rgb.shape[-2:], target, strict=True)
    )
    return rgb[:, :, rows][:, :, :, columns]


def _middles(have: int, want: int) -> list[int]:
    """The sample under the middle of each of `want` cells over `have` samples.

    Added up step by step in double precision, as PIL does (`Geometry.c`, ImagingScaleAffine):
    where a middle falls on a border between samples, the rounding decides.
    """
    step = have / want
    middles = itertools.accumulate(itertools.repeat(step, want - 1), initial=step / 2)
    return [int(middle) for middle in middles]
