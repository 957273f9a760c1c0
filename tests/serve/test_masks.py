"""Masks: the page has them as they are in the tables, and they are seen where they belong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco

from pipeline.ledger.reader import Ledger
from pipeline.results.colors import class_color
from pipeline.results.draw import MASK_OPACITY
from tests.results.chromium import chromium_page, require_chromium
from tests.results.reading import over_videos
from tests.serve.clients import client_of
from tests.serve.screen import screen, wait_for
from tests.serve.served import served

FRAME = 10
"""With two boxes, one of which has a mask."""


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    return Path(over_videos(tmp_path_factory.mktemp("masks")))


@pytest.fixture(scope="module")
def address(output: Path) -> Iterator[str]:
    require_chromium()
    with served(output) as where:
        yield where


def video_of(output: Path, name: str) -> str:
    return Ledger(output).index(str(output.parent / "videos" / name)).video_id


def covered(mask: dict) -> np.ndarray:
    return coco.decode({"size": mask["size"], "counts": mask["counts"].encode()}).astype(bool)


def test_masks_are_those_of_the_tables(output: Path) -> None:
    video = video_of(output, "a.mp4")
    path = f"/api/videos/{video}/masks"
    told = client_of(output).get(path, params={"start": 4, "stop": 20}).json()
    expected = []
    for frame in range(4, 20, 2):
        for row in Ledger(output).frame(video, frame).detections.to_pylist():
            if row["mask"] is not None:
                shown = [row["mask"]["size"], row["mask"]["counts"]]
                expected.append([frame, row["class_id"], *shown])
    assert len(expected) >= 2
    assert told["masks"] == expected
    assert [one["name"] for one in told["classes"]] == ["blue square"]
    assert client_of(output).get(path, params={"start": 0, "stop": 65}).status_code == 400


@pytest.mark.parametrize("name", ["a.mp4", "b.mp4"])
def test_masks_are_seen_where_they_belong(output: Path, address: str, chromium, name: str) -> None:
    """b.mp4 is turned; what is seen is the mask's colour blended over the picture."""
    video = video_of(output, name)
    (row,) = (
        row
        for row in Ledger(output).frame(video, FRAME).detections.to_pylist()
        if row["mask"] is not None
    )
    with chromium_page(chromium) as page:
        page.goto(f"{address}#/video/{video}?frame={FRAME}")
        wait_for(page, FRAME)
        page.uncheck("[name=boxes]")
        page.wait_for_selector("#boxes[data-masks='1']", state="attached")
        seen = screen(page).astype(float)
        page.keyboard.press("m")
        page.wait_for_selector("#boxes[data-masks='0']", state="attached")
        plain = screen(page).astype(float)
    mask = covered(row["mask"])
    rows = (np.arange(seen.shape[0]) + 0.5) * mask.shape[0] / seen.shape[0]
    columns = (np.arange(seen.shape[1]) + 0.5) * mask.shape[1] / seen.shape[1]
    # Whole pixels of the mask; one of the screen at its rim may be shared.
    inside = mask[rows.astype(int)][:, columns.astype(int)]
    color = np.array(class_color(row["class_id"]), float)
    blended = plain * (1 - MASK_OPACITY) + color * MASK_OPACITY
    away = np.abs(seen - np.where(inside[:, :, None], blended, plain)).max(axis=2)
    assert inside.sum() > 1000
    assert (away[inside] <= 3).mean() > 0.95
    assert (away[~inside] <= 3).mean() > 0.99
