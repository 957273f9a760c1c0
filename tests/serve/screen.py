"""What is seen of the player."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.results.chromium import picture_of


def wait_for(page: Any, frame: int, source: str = "picture") -> None:
    page.wait_for_selector(f".player[data-frame='{frame}'][data-source='{source}']")


def screen(page: Any) -> np.ndarray:
    """The video with what is drawn over it, RGB."""
    at = page.locator("#boxes").bounding_box()
    seen = picture_of(page.screenshot())
    left, top = round(at["x"]), round(at["y"])
    return seen[top : top + round(at["height"]), left : left + round(at["width"])]
