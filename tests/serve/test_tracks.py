"""Tracks: the page has them as they are in the tables, draws them, and leads to each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.ledger.reader import Ledger
from pipeline.results.colors import class_color, hex_of
from pipeline.results.draw import draw_box, scaled_box
from pipeline.results.where import Where
from tests.results.chromium import chromium_page, require_chromium
from tests.results.reading import over_videos
from tests.serve.clients import client_of
from tests.serve.conftest import STRIDE, Corpus
from tests.serve.screen import screen, wait_for
from tests.serve.served import served
from tests.tracks.made import boxes, detect, make_config, make_index, make_job, track

LINE = 2


@pytest.fixture(scope="module")
def address(corpus: Corpus) -> Iterator[str]:
    require_chromium()
    with served(corpus.output) as where:
        yield where


@pytest.fixture
def page(chromium, address) -> Iterator[object]:
    with chromium_page(chromium) as page:
        yield page


def rows_of(corpus: Corpus, video_id: str, start: int, stop: int) -> list[dict]:
    return corpus.ledger.tracks(Where(video=video_id, frames=(start, stop))).to_pylist()


def test_tracks_are_those_of_the_tables(client, corpus, world):
    told = client.get(f"/api/videos/{world}/tracks?start=10&stop=40").json()
    assert told["sampled"] == list(range(10, 40, STRIDE))
    expected = rows_of(corpus, world, 10, 40)
    assert {row["state"] for row in expected} == {"tracked", "lost"}
    keys = ("frame_index", "x1", "y1", "x2", "y2", "score", "class_id", "track_id")
    assert told["boxes"] == [
        [*(row[key] for key in keys), row["state"] == "lost"] for row in expected
    ]
    ids = sorted({row["track_id"] for row in expected})
    assert told["colors"] == [[number, hex_of(number - 1)] for number in ids]
    assert {one["name"] for one in told["classes"]} == {row["class_name"] for row in expected}


def test_the_list_has_every_track_page_by_page(client, corpus, world):
    path = f"/api/videos/{world}/tracklist"
    told = client.get(path).json()
    expected = corpus.ledger.track_summaries(Where(video=world)).to_pylist()
    assert told["total"] == len(told["tracks"]) == len(expected) > 3
    same = ("first_frame", "last_frame", "first_s", "last_s", "frames", "lost_frames", "mean_score")
    for one, row in zip(told["tracks"], expected, strict=True):
        assert one["id"] == row["track_id"]
        assert one["class"]["name"] == row["class_name"]
        assert {name: one[name] for name in same} == {name: row[name] for name in same}
    parts = [client.get(path, params={"offset": at, "limit": 2}).json() for at in (0, 2)]
    assert parts[0]["tracks"] + parts[1]["tracks"] == told["tracks"][:4]
    assert {part["total"] for part in parts} == {told["total"]}


def test_what_is_asked_for_is_bounded(client, world):
    for path, status in (
        (f"/api/videos/{world}/tracks?start=0&stop=4097", 400),
        (f"/api/videos/{world}/tracks?start=5&stop=5", 400),
        (f"/api/videos/{world}/tracklist?limit=501", 400),
        (f"/api/videos/{'0' * 64}/tracks", 404),
        (f"/api/videos/{'0' * 64}/tracklist", 404),
    ):
        assert client.get(path).status_code == status, path


def test_tracks_are_seen_in_their_colours_and_lost_ones_dashed(page, address, corpus, world):
    rows = rows_of(corpus, world, 0, 60)
    frame = next(row["frame_index"] for row in rows if row["state"] == "lost")
    mine = [row for row in rows if row["frame_index"] == frame]
    page.goto(f"{address}#/video/{world}?frame={frame}")
    wait_for(page, frame)
    page.uncheck("[name=labels]")
    page.wait_for_selector("#tracks button")
    page.keyboard.press("t")
    page.wait_for_selector(f"#boxes[data-what='tracks'][data-of='{frame}']", state="attached")
    seen = screen(page)
    scale = seen.shape[1] / 256, seen.shape[0] / 160
    lines = np.zeros(seen.shape, np.uint8)
    for row in reversed(mine):  # The older track on top.
        draw_box(lines, scaled_box(row, scale), class_color(row["track_id"] - 1), LINE)
    lost = [row["track_id"] for row in mine if row["state"] == "lost"]
    for row in mine:
        color = class_color(row["track_id"] - 1)
        at = (lines == color).all(axis=2)
        share = (seen[at] == color).all(axis=1).mean()
        assert at.sum() > 200
        if row["track_id"] in lost:
            assert 0.3 < share < 0.8
        elif not _touches(row, [one for one in mine if one["track_id"] in lost]):
            assert share > 0.97  # The corners of the picture are round.
    assert page.locator("#sampled").inner_text() == f"{len(mine)} tracks, {len(lost)} lost"
    names = page.locator("ul.boxes li").all_inner_texts()
    assert [name.split()[0] for name in names] == [str(row["track_id"]) for row in mine]
    page.uncheck("[name=tracks]")
    page.wait_for_selector("#boxes[data-what='detections']", state="attached")
    boxes = corpus.ledger.frame(world, frame).detections.num_rows
    assert page.locator("#sampled").inner_text() == f"{boxes} boxes"


def _touches(row: dict, others: list[dict]) -> bool:
    """Whether a dashed line may lie over its own."""
    return any(
        row["x1"] <= one["x2"]
        and one["x1"] <= row["x2"]
        and row["y1"] <= one["y2"]
        and one["y1"] <= row["y2"]
        for one in others
    )


def test_the_list_leads_to_where_a_track_begins(page, address, corpus, world):
    page.goto(f"{address}#/video/{world}?frame=59")
    wait_for(page, 59)
    for row in corpus.ledger.track_summaries(Where(video=world)).to_pylist():
        item = page.locator(f"#tracks [data-track='{row['track_id']}']")
        assert item.locator(".name").inner_text() == f"{row['track_id']} {row['class_name']}"
        item.click()
        wait_for(page, row["first_frame"])
        page.wait_for_url(f"**frame={row['first_frame']}&tracks=1")
        assert page.locator("#tracks [aria-pressed=true]").count() == 1
        assert item.get_attribute("aria-pressed") == "true"
    assert page.locator("[name=tracks]").is_checked()
    item.click()
    assert page.locator("#tracks [aria-pressed=true]").count() == 0
    page.reload()
    wait_for(page, row["first_frame"])
    page.wait_for_selector("#boxes[data-what='tracks']", state="attached")


def test_without_tracks_there_is_no_list_and_no_switch(chromium, tmp_path):
    output = over_videos(tmp_path)
    video_id = Ledger(output).index(str(tmp_path / "videos" / "a.mp4")).video_id
    empty = {"sampled": list(range(0, 8, 2)), "boxes": [], "colors": [], "classes": []}
    told = client_of(Path(output)).get(f"/api/videos/{video_id}/tracks?start=0&stop=8")
    assert told.json() == empty
    with served(output) as address, chromium_page(chromium) as page:
        page.goto(f"{address}#/video/{video_id}?frame=4&tracks=1")
        wait_for(page, 4)
        page.wait_for_selector("#boxes[data-what='detections']", state="attached")
        assert page.locator("#tracks").is_hidden()
        assert page.locator("[name=tracks]").is_hidden()
        page.keyboard.press("t")
        assert page.locator("#boxes").get_attribute("data-what") == "detections"


def test_a_long_list_comes_in_parts(chromium, tmp_path):
    """Of 120 tracks; the video itself is nowhere."""

    def scene(frame, time_s):
        corners = ((x, y) for x in range(0, 600, 50) for y in range(0, 450, 45))
        return boxes(*((x, y, x + 20, y + 20, 0.9, 1) for x, y in corners))

    job, index = make_job(tmp_path / "out", make_config()), make_index(8)
    detect(job, index, scene)
    track(job, index)
    with served(job.output) as address, chromium_page(chromium) as page:
        page.goto(f"{address}#/video/{index.video_id}")
        page.wait_for_selector("#tracks button[data-track='100']")
        items = page.locator("#tracks button[data-track]")
        assert (items.count(), page.locator("#tracks h2 span").inner_text()) == (100, "120")
        page.click("#tracks .more")
        page.wait_for_selector("#tracks button[data-track='120']")
        ids = [int(item.get_attribute("data-track")) for item in items.all()]
        assert ids == list(range(1, 121))
        assert page.locator("#tracks .more").is_hidden()
