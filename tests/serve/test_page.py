"""The page in a real Chromium: what is asked for is what is seen, read back from the screen."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.demo.pattern import read_index
from pipeline.results.colors import class_color
from pipeline.results.draw import draw_box, scaled_box
from tests.results.chromium import chromium_page, require_chromium
from tests.serve.conftest import COUNT, STRIDE, Corpus
from tests.serve.screen import screen, wait_for
from tests.serve.served import served

LINE = 2
CORNER = 12
"""Pixels at the corners of the picture, which are round."""


@pytest.fixture(scope="module")
def address(corpus: Corpus) -> Iterator[str]:
    require_chromium()
    with served(corpus.output) as where:
        yield where


@pytest.fixture(scope="module")
def browser(chromium) -> Iterator[object]:
    with chromium_page(chromium) as page:
        page.errors = []
        page.on("console", lambda said: page.errors.append(said.text) if is_bad(said) else None)
        yield page


def is_bad(said) -> bool:
    """Of what the page's policy forbids, among others; what the server refuses is meant."""
    return said.type == "error" and "Failed to load resource" not in said.text


@pytest.fixture
def page(browser, address) -> Iterator[object]:
    browser.set_viewport_size({"width": 1280, "height": 800})
    browser.goto("about:blank")
    yield browser
    assert browser.errors == []


def outlines(corpus: Corpus, video_id: str, frame: int, shape: tuple[int, ...]) -> np.ndarray:
    """The colours that the frame's boxes should have on screen, 0 where there is no line."""
    expected = np.zeros(shape, np.uint8)
    found = corpus.ledger.frame(video_id, frame)
    scale = (shape[1] / found.row["width"], shape[0] / found.row["height"])
    for row in reversed(found.detections.to_pylist()):
        draw_box(expected, scaled_box(row, scale), class_color(row["class_id"]), LINE)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    near_y = (rows < CORNER) | (rows >= shape[0] - CORNER)
    near_x = (columns < CORNER) | (columns >= shape[1] - CORNER)
    expected[near_y & near_x] = 0
    return expected


def share_seen(seen: np.ndarray, expected: np.ndarray) -> float:
    """How much of the lines is on the screen, to the pixel and in its colour."""
    lines = expected.any(axis=2)
    assert lines.sum() > 500
    return float((seen[lines] == expected[lines]).all(axis=1).mean())


def test_search_click_and_the_frame_is_the_one_that_was_found(page, address):
    page.goto(address)
    page.fill("#query", "a red circle")
    page.press("#query", "Enter")
    page.wait_for_selector("#hits a")
    assert "q=a+red+circle" in page.url
    card = page.locator("#hits a").nth(1)
    frame = int(card.get_attribute("data-frame"))
    assert card.locator("img").evaluate("img => img.decode().then(() => img.naturalWidth)") > 0
    card.click()
    wait_for(page, frame)
    page.keyboard.press("b")
    assert read_index(screen(page)) == frame
    assert page.locator("#source").inner_text() == "exact"


def test_boxes_are_where_they_belong(page, address, corpus):
    video_id = corpus.ids["world.mp4"]
    for frame, other in ((14, 30), (40, 20)):
        page.goto(f"{address}#/video/{video_id}?frame={frame}")
        wait_for(page, frame)
        page.wait_for_selector(f"#boxes[data-of='{frame}']", state="attached")
        page.uncheck("[name=labels]")
        seen = screen(page)
        assert share_seen(seen, outlines(corpus, video_id, frame, seen.shape)) == 1.0
        assert share_seen(seen, outlines(corpus, video_id, other, seen.shape)) < 0.9
        page.uncheck("[name=boxes]")
        assert read_index(screen(page)) == frame


def test_each_frame_by_itself_whoever_decodes_it(page, address, corpus):
    """Of uneven rate, from a pts that is not 0, with B-frames."""
    page.goto(f"{address}#/video/{corpus.ids['world.mp4']}?frame=7")
    wait_for(page, 7)
    page.keyboard.press("b")
    for frame in (8, 9, 10):
        page.keyboard.press("ArrowRight")
        wait_for(page, frame)
        assert read_index(screen(page)) == frame
    page.keyboard.press("Shift+ArrowLeft")
    wait_for(page, 0)
    page.keyboard.press("End")
    wait_for(page, COUNT - 1)
    page.wait_for_url(f"**frame={COUNT - 1}")
    page.uncheck("[name=exact]")
    for frame in (0, 1, 2, 23, 24, 41, COUNT - 2, COUNT - 1):
        page.fill("#frame", str(frame))
        page.press("#frame", "Enter")
        wait_for(page, frame, "video")
        assert read_index(screen(page)) == frame


def test_boxes_go_in_step_with_the_video(page, address, corpus):
    video_id = corpus.ids["world.mp4"]
    page.goto(f"{address}#/video/{video_id}?frame=4")
    wait_for(page, 4)
    page.uncheck("[name=labels]")
    page.select_option("[aria-label=Speed]", "0.1")
    page.click("#play")
    page.wait_for_selector(".player[data-source='video']")
    compared = set()
    shown = "document.getElementById('boxes').dataset.frame"
    until = time.monotonic() + 120
    while len(compared) < 4 and time.monotonic() < until:
        if page.locator(".player").get_attribute("data-source") != "video":
            page.click("#play")  # It has come to its end, and begins again.
            page.wait_for_selector(".player[data-source='video']")
        before = page.evaluate(shown)
        seen = screen(page)
        frame = int(before)
        if page.evaluate(shown) != before or frame % STRIDE or frame in compared:
            continue
        assert share_seen(seen, outlines(corpus, video_id, frame, seen.shape)) == 1.0
        compared.add(frame)
    assert len(compared) == 4
    page.click("#play")
    page.wait_for_selector(".player[data-source='picture']")
    page.uncheck("[name=boxes]")
    assert read_index(screen(page)) == int(page.locator(".player").get_attribute("data-frame"))


def test_a_frame_that_was_not_looked_at_says_so(page, address, corpus):
    page.goto(f"{address}#/video/{corpus.ids['world.mp4']}?frame=21")
    wait_for(page, 21)
    page.wait_for_selector("#boxes[data-of='20']", state="attached")
    assert page.locator("#sampled").inner_text() == "Not sampled; boxes of frame 20."
    page.uncheck("[name=hold]")
    page.uncheck("[name=boxes]")
    assert read_index(screen(page)) == 21


def test_what_the_browser_does_not_play_is_shown_frame_by_frame(page, address, corpus):
    page.goto(f"{address}#/video/{corpus.ids['old.mkv']}?frame=17")
    wait_for(page, 17)
    assert "Browsers do not play mpeg2video in matroska: shown frame by frame." in page.content()
    assert page.locator("#play").is_disabled()
    assert read_index(screen(page)) == 17
    page.keyboard.press("ArrowLeft")
    wait_for(page, 16)
    assert read_index(screen(page)) == 16


def test_the_timeline_leads_to_its_frame(page, address, corpus):
    video_id = corpus.ids["world.mp4"]
    page.goto(f"{address}#/video/{video_id}")
    page.wait_for_selector(".tracks .track")
    wait_for(page, 0)
    at = page.locator(".tracks").bounding_box()
    page.mouse.click(at["x"] + at["width"] * 0.6, at["y"] + at["height"] / 2)
    index = corpus.ledger.index(video_id)
    seconds = index.pts_seconds(index.pts)
    wanted = seconds[0] + 0.6 * (seconds[-1] - seconds[0])
    wait_for(page, int(np.abs(seconds - wanted).argmin()))
    labels = page.locator(".label")
    names = {row["class_name"] for row in corpus.ledger.table("detections").to_pylist()}
    assert {labels.nth(at).inner_text() for at in range(labels.count())} <= names


def test_failures_and_what_is_not_there(page, address, corpus):
    page.goto(f"{address}#/failures")
    page.wait_for_selector("tbody tr")
    assert "noise.mp4" in page.locator("tbody").inner_text()
    page.click("tbody a >> text=part.mkv")
    page.wait_for_selector(".player")
    for link, said in ((f"#/video/{'0' * 64}", "no such video"), ("#/x/y", "no such page")):
        page.goto(address + link)
        page.wait_for_selector(".notice.bad")
        assert said in page.locator(".notice.bad").inner_text()


def test_nothing_is_wider_than_a_phone(page, address, corpus):
    page.set_viewport_size({"width": 400, "height": 800})
    video = f"#/video/{corpus.ids['world.mp4']}?frame=14"
    for link, there in (
        ("", ".card"),
        ("#/?q=a+red+circle", "#hits a"),
        ("#/videos", ".card"),
        ("#/failures", "tbody tr"),
        (video, ".tracks"),
    ):
        page.goto(address + link)
        page.wait_for_selector(there)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, link
