"""Masks: the page has them as they are in the tables, and they are seen where they belong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.ledger.reader import Ledger
from pipeline.results.colors import class_color
from tests.results.chromium import chromium_page, require_chromium
from tests.results.reading import over_videos
from tests.serve.clients import client_of
from tests.serve.screen import are_seen, screen, wait_for
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
        seen = screen(page)
        page.keyboard.press("m")
        page.wait_for_selector("#boxes[data-masks='0']", state="attached")
        plain = screen(page)
    assert are_seen(seen, plain, [(row["mask"], class_color(row["class_id"]))])
