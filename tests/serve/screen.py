"""What is seen of the player."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco

from pipeline.results.colors import Color
from pipeline.results.draw import MASK_OPACITY
from tests.results.chromium import picture_of

Painted = Sequence[tuple[Mapping[str, Any], Color]]
"""Masks as the tables have them, and their colours; the last one on top."""


def wait_for(page: Any, frame: int, source: str = "picture") -> None:
    page.wait_for_selector(f".player[data-frame='{frame}'][data-source='{source}']")


def screen(page: Any) -> np.ndarray:
    """The video with what is drawn over it, RGB."""
    at = page.locator("#boxes").bounding_box()
    seen = picture_of(page.screenshot())
    left, top = round(at["x"]), round(at["y"])
    return seen[top : top + round(at["height"]), left : left + round(at["width"])]


def are_seen(seen: np.ndarray, plain: np.ndarray, masks: Painted) -> bool:
    """Whether these masks, and nothing else, make `seen` of `plain`, the screen without them."""
    shown, covered = plain.astype(float), np.zeros(plain.shape[:2], bool)
    for rle, color in masks:
        mask = coco.decode({"size": rle["size"], "counts": rle["counts"].encode()}).astype(bool)
        rows = (np.arange(plain.shape[0]) + 0.5) * mask.shape[0] / plain.shape[0]
        columns = (np.arange(plain.shape[1]) + 0.5) * mask.shape[1] / plain.shape[1]
        inside = mask[rows.astype(int)][:, columns.astype(int)]
        shown[inside] = shown[inside] * (1 - MASK_OPACITY) + np.array(color, float) * MASK_OPACITY
        covered |= inside
    assert covered.sum() > 1000
    # Whole pixels of a mask; one of the screen at its rim may be shared.
    right = np.abs(seen - shown).max(axis=2) <= 3
    return bool(right[covered].mean() > 0.95 and right[~covered].mean() > 0.99)
