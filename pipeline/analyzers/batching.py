"""A clip into batches for a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

AUTO_BATCH = {"cpu": 8, "cuda": 32}
"""Frames a batch when the configuration says auto. On a CPU a batch of eight is about as fast a
frame as any larger and keeps activations small. A GPU is filled by 32 frames of the usual
detectors, which fit into 16 GB; 32 is also the default length of a clip."""


def batch_size(configured: int | Literal["auto"], device: str) -> int:
    """The frames of one batch on `device` ("cpu", "cuda" or "cuda:N")."""
    if configured == "auto":
        return AUTO_BATCH["cuda" if device.startswith("cuda") else "cpu"]
    return configured


def batches(count: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover `[0, count)` in order.

    >>> list(batches(5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
