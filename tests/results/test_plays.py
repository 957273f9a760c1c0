"""What is rendered plays in a browser: it loads, seeks, and shows the frame of that time."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config_file import parse_config
from pipeline.demo.pattern import read_index
from pipeline.ledger.reader import Ledger
from pipeline.results.render import render
from pipeline.runner import run
from tests.results.chromium import chromium_page, picture_of, require_chromium
from tests.results.sound import with_sound
from tests.videos import make, uneven

COUNT = 120
PAGE = "<body style='margin:0'><video muted preload=auto src=o.mp4></video>"


@pytest.fixture(scope="module", params=[None, "20f"], ids=["all", "part"])
def rendered(request, tmp_path_factory) -> tuple[Path, list[tuple[int, float]]]:
    """A folder with an mp4, made of a video of uneven rate with sound, and a page that plays it;
    (index, seconds) of its frames."""
    require_chromium()
    folder = tmp_path_factory.mktemp("plays")
    make(folder / "v.mp4", COUNT, width=320, height=240, **uneven(COUNT))
    with_sound(folder / "s.mkv", folder / "v.mp4", seconds=9)
    run(parse_config({}, where="test"), [str(folder / "s.mkv")], folder / "out", engine="local")
    render(str(folder / "out"), "s.mkv", str(folder / "o.mp4"), start=request.param)
    (folder / "page.html").write_text(PAGE)
    index = Ledger(folder / "out").index(str(folder / "s.mkv"))
    first = 20 if request.param else 0
    times = index.pts_seconds(index.pts - index.pts[first])
    return folder, [(at, float(times[at])) for at in range(first, COUNT)]


def test_it_loads_seeks_and_shows_each_frame(rendered, chromium) -> None:
    folder, frames = rendered
    with chromium_page(chromium) as page:
        page.goto(f"file://{folder}/page.html")
        page.wait_for_function("document.querySelector('video').readyState >= 4")
        video = page.locator("video")
        facts = video.evaluate("v => [v.videoWidth, v.videoHeight, v.duration, v.error]")
        assert facts[:2] == [320, 240]
        assert facts[2] == pytest.approx(frames[-1][1], abs=0.3)
        assert facts[3] is None
        for place in (0, 7, 64, len(frames) - 2, 33):
            at, seconds = frames[place]
            middle = (seconds + frames[place + 1][1]) / 2
            video.evaluate(
                "(v, t) => new Promise(done => {"
                "  v.requestVideoFrameCallback(() => done()); v.currentTime = t; })",
                middle,
            )
            assert video.evaluate("v => v.currentTime") == pytest.approx(middle, abs=1e-4)
            shown = picture_of(video.screenshot())
            assert shown.shape == (240, 320, 3)
            assert read_index(shown) == at


def test_it_plays_to_its_end(rendered, chromium) -> None:
    folder, frames = rendered
    with chromium_page(chromium) as page:
        page.goto(f"file://{folder}/page.html")
        page.wait_for_function("document.querySelector('video').readyState >= 4")
        video = page.locator("video")
        video.evaluate("(v, t) => { v.currentTime = t; return v.play() }", frames[-20][1])
        page.wait_for_function("document.querySelector('video').ended")
        assert video.evaluate("v => v.error") is None
        assert read_index(picture_of(video.screenshot())) == frames[-1][0]
