"""The page: what it counts, what it shows, and that nothing in a name becomes part of it."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from deltalake import DeltaTable

from pipeline.cli import invoke
from pipeline.config_file import parse_config
from pipeline.durations import clock
from pipeline.errors import UsageError
from pipeline.ledger.reader import Ledger
from pipeline.results.colors import hex_of
from pipeline.results.report_data import gather, timeline
from pipeline.results.report_page import TIMELINE_SIZE, step_path, write_report
from pipeline.results.search import search
from pipeline.runner import run
from tests.results.chromium import chromium_page
from tests.videos import make

INLINE = "data:image/jpeg;base64,"
HOSTILE = "<img src=x onerror=alert(1)>&\u202e\"'.mp4"


@pytest.fixture(scope="module")
def hostile(boxed: Path, tmp_path_factory) -> Path:
    """An output with a video, a truncated one, two files that are none, and a class, all of them
    called what a page must not obey."""
    folder = tmp_path_factory.mktemp("hostile")
    videos = folder / "videos"
    videos.mkdir()
    shutil.copy(boxed / "demo.mp4", videos / HOSTILE)
    cut = make(videos / "cut.mkv", 90, gop=10)
    cut.write_bytes(cut.read_bytes()[:-3000])
    for name in ("<script>alert(1)<script>.mp4", "text.mp4"):
        (videos / name).write_text("text")
    data = {
        "detector": {"backend": "transformers", "model": "builtin:detector"},
        "embedder": {"backend": "clip", "model": "builtin:clip"},
        "sampling": {"stride": 3},
    }
    run(parse_config(data, where="test"), [str(videos)], folder / "out", engine="local")
    most = gather(str(folder / "out")).classes[0].class_id
    DeltaTable(str(folder / "out" / "detections")).update(
        updates={"class_name": "'</style><script>alert(2)</script>'"},
        predicate=f"class_id = {most}",
    )
    return folder


class _Elements(HTMLParser):
    """Elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_nothing_in_a_name_becomes_part_of_the_page(hostile: Path, tmp_path: Path) -> None:
    write_report(str(hostile / "out"), str(tmp_path / "r.html"))
    page = (tmp_path / "r.html").read_text()
    found = _Elements(page)
    tags = Counter(tag for tag, _ in found.elements)
    assert not {"script", "link", "iframe", "object", "base", "form", "a"} & set(tags)
    assert tags["style"] == tags["title"] == 1
    for tag, attributes in found.elements:
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("src", "data:image/jpeg;base64,").startswith(
            "data:image/jpeg;base64,"
        )
        assert "href" not in attributes
        assert "url(" not in (attributes.get("style") or ""), tag
    assert "http" not in re.sub(r"http-equiv", "", page).replace("https", "http")
    assert "\u202e" not in page
    assert "<img src=x onerror=alert(1)>&\\u202e\"'.mp4" in found.text
    assert "</style><script>alert(2)</script>" in found.text
    assert "default-src 'none'" in page


def test_it_opens_in_a_browser_by_itself(hostile: Path, tmp_path: Path, chromium) -> None:
    done = write_report(str(hostile / "out"), str(tmp_path / "r.html"))
    for scheme, ground in (("light", "rgb(246, 247, 249)"), ("dark", "rgb(15, 18, 22)")):
        with chromium_page(chromium, color_scheme=scheme) as page:
            dialogs: list[str] = []
            page.on("dialog", lambda dialog, said=dialogs: said.append(dialog.message))
            page.goto(f"file://{tmp_path}/r.html")
            assert page.evaluate("document.scripts.length") == 0
            sizes = page.evaluate("[...document.images].map(i => [i.naturalWidth, i.complete])")
            assert len(sizes) == done.pictures > 12
            assert all(width > 100 and complete for width, complete in sizes)
            style = "getComputedStyle(document.body).backgroundColor"
            assert page.evaluate(style) == ground
            assert page.locator("#videos h3").first.inner_text().startswith("<img src=x")
            for width in (1280, 390):
                page.set_viewport_size({"width": width, "height": 800})
                assert page.evaluate("document.documentElement.scrollWidth") == width
            assert dialogs == []


def test_figures_are_those_of_the_tables(hostile: Path, tmp_path: Path) -> None:
    out = str(hostile / "out")
    ledger, data = Ledger(out), gather(out)
    rows = ledger.table("detections")
    counts = Counter(zip(rows["class_id"].to_pylist(), rows["class_name"].to_pylist(), strict=True))
    assert {(one.class_id, one.name): one.boxes for one in data.classes} == counts
    assert [one.boxes for one in data.classes] == sorted(counts.values(), reverse=True)
    assert data.rows_of("frames") == ledger.table("frames").num_rows
    assert data.status.videos == {"ok": 1, "partial": 1, "failed": 2}
    unreadable, short = data.failures
    assert (unreadable.stage, unreadable.count, len(unreadable.uris)) == ("index", 2, 2)
    assert "not a video" in unreadable.reason
    assert (short.count, short.examples[0].split(" ")[0]) == (1, f"{hostile}/videos/cut.mkv")
    (done,) = data.runs
    assert [name for name, _ in done.stages] == ["decode", "detector", "embedder", "wait"]
    assert 0 < sum(seconds for _, seconds in done.stages[:3]) <= done.took_s
    assert 0 <= done.startup_s <= done.row["total_s"]
    text = " ".join(_Elements(_page(out, tmp_path)).text.split())
    assert "4videos: 1 ok, 1 partial, 2 failed" in text
    assert f"{rows.num_rows}boxes of {len(counts)} classes" in text
    assert "The first 2 of 4 by name; 2 could not be read at all." in text
    assert unreadable.reason in text


def _page(output: str, tmp_path: Path) -> str:
    write_report(output, str(tmp_path / "page.html"))
    return (tmp_path / "page.html").read_text()


def test_searches_show_what_search_finds(hostile: Path, tmp_path: Path) -> None:
    out, target = str(hostile / "out"), tmp_path / "r.html"
    texts = ["a red circle", "<b>two</b>"]
    done = write_report(out, str(target), videos=0, searches=texts)
    text = " ".join(_Elements(target.read_text()).text.split())
    hits = [hit for one in texts for hit in search(out, one, k=6)]
    assert done.pictures == len(hits) > 2
    for hit in hits:
        assert f"frame {hit.frame_index}, {clock(hit.pts_s)} cosine {hit.score:.2f}" in text
    assert "“<b>two</b>”" in text
    assert "The first 0 of 4 by name" in text


def test_without_embeddings_there_are_no_searches(boxed: Path, tmp_path: Path) -> None:
    text = " ".join(_Elements(_page(str(boxed / "out"), tmp_path)).text.split())
    assert f"No examples: {boxed}/out" in text
    assert "cosine" not in text


def test_a_failure_that_was_mended_is_not_counted(tmp_path: Path) -> None:
    video = tmp_path / "v.mp4"
    video.write_text("text")
    config, out = parse_config({}, where="test"), str(tmp_path / "out")
    run(config, [str(video)], out, engine="local")
    run(config, [str(video)], out, engine="local", retry_failed=True)
    assert [group.count for group in gather(out).failures] == [1]
    make(video, 30)
    run(config, [str(video)], out, engine="local")
    data = gather(out)
    assert (data.failures, data.resolved, len(data.runs)) == ([], 2, 3)
    page = _page(out, tmp_path)
    assert "Every video is in the tables, with every sampled frame." in page
    assert "2 earlier failures are not counted" in page


def test_timelines_count_every_box_once(boxed: Path) -> None:
    ledger = Ledger(boxed / "out")
    video_id = ledger.index(f"{boxed}/demo.mp4").video_id
    rows = ledger.table("detections")
    for parts in (1, 4, 500):
        found = timeline(ledger, video_id, parts)
        assert found is not None
        assert found.boxes.shape == (len(found.classes), min(parts, 10))
        assert sum(one.boxes for one in found.classes) == rows.num_rows
        assert found.frames == 10
        assert not found.failed.any()
    # One part a frame, or nearly so: boxes per frame are then what the rows of a frame are.
    whole = timeline(ledger, video_id, 1)
    assert whole is not None
    assert whole.boxes.sum() == pytest.approx(rows.num_rows / 10)
    assert timeline(ledger, "0" * 64) is None


def test_steps_fill_what_lies_under_the_values() -> None:
    width, height = TIMELINE_SIZE
    path = step_path(np.array([0, 2, 2, np.nan, 1]), 2.0)
    step = width / 5
    assert path == (
        f"M{step:.1f} {height}V0.0H{3 * step:.1f}V{height}Z"
        f"M{4 * step:.1f} {height}V{height / 2:.1f}H{width:.1f}V{height}Z"
    )
    assert step_path(np.zeros(3), 0.0) == ""


def test_the_page_is_bounded_and_says_so(hostile: Path, tmp_path: Path, capsys) -> None:
    target = tmp_path / "few.html"
    arguments = ["report", str(hostile / "out"), "-o", str(target), "--videos", "1", "--no-search"]
    assert invoke(arguments) == (0, "")
    assert re.fullmatch(
        rf"report   {target}: 1 of 4 videos one by one, 6 pictures, 0\.\d MiB\n",
        capsys.readouterr().out,
    )
    assert "The first 1 of\n  4 by name" in target.read_text()
    assert target.read_text().count("<article") == 1


def test_a_video_that_is_gone_is_shown_without_pictures(boxed: Path, tmp_path: Path) -> None:
    shutil.copy(boxed / "demo.mp4", tmp_path / "v.mp4")
    out = str(tmp_path / "out")
    run(parse_config({}, where="test"), [str(tmp_path / "v.mp4")], out, engine="local")
    (tmp_path / "v.mp4").unlink()
    page = _page(out, tmp_path)
    assert "no pictures: video" in page
    assert "No such file or directory" in page
    assert "No boxes in this output." in page


def test_an_output_without_a_run_has_a_page(tmp_path: Path) -> None:
    from pipeline.ledger.creation import create_tables
    from pipeline.ledger.store import Store

    create_tables(Store(str(tmp_path / "out")))
    page = _page(str(tmp_path / "out"), tmp_path)
    assert "No run has worked here." in page
    with pytest.raises(UsageError, match="is no frameledger output"):
        write_report(str(tmp_path), str(tmp_path / "r.html"))
    with pytest.raises(UsageError, match=r"give a name that ends in \.html"):
        write_report(str(tmp_path / "out"), str(tmp_path / "r.txt"))


def test_colours_are_those_of_pictures() -> None:
    assert hex_of(0) == "#ff3333"
