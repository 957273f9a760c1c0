"""Masks of tracks: those of the tables, in the colours of their tracks, on the right frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pycocotools import mask as coco

from pipeline.demo.pattern import read_index
from pipeline.ledger.commit import LedgerWriter
from pipeline.ledger.reader import Ledger
from pipeline.ledger.remap import with_ids
from pipeline.ledger.schema import plain
from pipeline.records import Analysis
from pipeline.results.boxes import BoxChoice, Boxes
from pipeline.results.colors import class_color, hex_of
from pipeline.sources.discover import look
from pipeline.sources.plan import plan_video
from tests.ledger.corpus import DETECTOR, FRAMES, GRID
from tests.results.chromium import chromium_page, require_chromium
from tests.results.reading import over_videos
from tests.serve.clients import client_of
from tests.serve.screen import Painted, are_seen, screen, wait_for
from tests.serve.served import served

TRACKER = Analysis(
    "tracker", "tracks", {"frames": FRAMES.fingerprint, "detections": DETECTOR.fingerprint}
)
NAMES = {1: "red circle", 2: "blue square"}


def disc(size: tuple[int, int], x: int, y: int, radius: int) -> np.ndarray:
    """bool (height, width); `size` is width and height."""
    rows, columns = np.ogrid[: size[1], : size[0]]
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 <= radius**2)


def tracks_on(frame: int, size: tuple[int, int]) -> list[dict]:
    """Rows of `tracks`: two discs, of which now one and now the other has the better score and
    lies on top, and a ring that is lost on every second sampled frame."""
    step, turn = 3 * frame % 40, frame // 2 % 2
    ring = disc(size, 70 - step, 68, 12) & ~disc(size, 70 - step, 68, 6)
    made = [
        (1, 1, 0.6 + 0.3 * turn, disc(size, 20 + step, 30, 14)),
        (2, 2, 0.9 - 0.3 * turn, disc(size, 30 + step, 40, 12)),
        (3, 1, None if turn else 0.7, ring),
    ]
    rows = []
    for track_id, class_id, score, covered in made:
        rle = coco.encode(np.asfortranarray(covered.astype(np.uint8)))
        x, y, width, height = coco.toBbox(rle).tolist()
        mask = {"size": rle["size"], "counts": rle["counts"].decode()}
        row = {"frame_index": frame, "track_id": track_id, "score": score}
        row |= {"x1": x, "y1": y, "x2": x + width, "y2": y + height}
        row |= {"class_id": class_id, "class_name": NAMES[class_id]}
        lost = {"state": "lost", "mask": None}
        rows.append(row | (lost if score is None else {"state": "tracked", "mask": mask}))
    return rows


def painted(frame: int, size: tuple[int, int]) -> Painted:
    """What `frameledger render --tracks` paints, in its order: the best score on top."""
    there = [row for row in tracks_on(frame, size) if row["mask"] is not None]
    there.sort(key=lambda row: row["score"])
    return [(row["mask"], class_color(row["track_id"] - 1)) for row in there]


def follow(output: str, name: str) -> None:
    """Land the made-up tracks of a video, next to its detections, which have other masks."""
    source = look(str(Path(output).parent / "videos" / name))
    index = Ledger(output).index(source.uri)
    size = index.width, index.height
    seconds, schema = index.pts_seconds(index.pts).tolist(), plain("tracks")
    with LedgerWriter(output, "run-2", {TRACKER.fingerprint: TRACKER}) as writer:
        for planned in plan_video(source, index, GRID):
            task = replace(planned, analyses=(TRACKER.fingerprint,))
            frames = task.frames_of(task.shard.own_start, task.shard.own_stop).tolist()
            rows = [row | {"pts_s": seconds[at]} for at in frames for row in tracks_on(at, size)]
            made = pa.Table.from_pylist(rows, schema=schema)
            columns = dict(zip(schema.names, made.columns, strict=True))
            landed = with_ids(columns, task, TRACKER, "run-2")
            writer.add_derived(task, TRACKER.fingerprint, landed, None)


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    made = over_videos(tmp_path_factory.mktemp("track masks"))
    follow(made, "a.mp4")
    follow(made, "b.mp4")
    return Path(made)


@pytest.fixture(scope="module")
def address(output: Path) -> Iterator[str]:
    require_chromium()
    with served(output) as where:
        yield where


def video_of(output: Path, name: str) -> tuple[str, tuple[int, int]]:
    """Its video_id, and its width and height."""
    index = Ledger(output).index(str(output.parent / "videos" / name))
    return index.video_id, (index.width, index.height)


def wait_for_masks(page, of: int, count: int) -> None:
    page.wait_for_selector(f"#boxes[data-of='{of}'][data-masks='{count}']", state="attached")


def test_masks_of_tracks_are_those_of_the_tables(output: Path) -> None:
    video, _ = video_of(output, "a.mp4")
    path = f"/api/videos/{video}/trackmasks"
    told = client_of(output).get(path, params={"start": 4, "stop": 20}).json()
    rendered = Boxes(Ledger(output), video, BoxChoice(tracks=True))
    expected = []
    for frame in range(4, 20, 2):
        for row in sorted(rendered.on(frame), key=lambda row: row["score"]):
            shown = [row["mask"]["size"], row["mask"]["counts"]]
            expected.append([frame, row["class_id"], *shown, row["track_id"]])
    assert len(expected) == 4 * 2 + 4 * 3
    assert told == {
        "masks": expected,
        "colors": [[number, hex_of(number - 1)] for number in (1, 2, 3)],
    }
    whole = {"start": 0, "stop": 64}
    assert client_of(output).get(path, params=whole).status_code == 200
    assert client_of(output).get(path, params=whole | {"stop": 65}).status_code == 400


@pytest.mark.parametrize(("name", "first"), [("a.mp4", 62), ("b.mp4", 30)])
def test_masks_of_tracks_are_seen_where_they_belong(
    output: Path, address: str, chromium, name: str, first: int
) -> None:
    """b.mp4 is turned. The second frame is among those that the page asks for next."""
    video, size = video_of(output, name)
    with chromium_page(chromium) as page:
        page.goto(f"{address}#/video/{video}?frame={first}&tracks=1")
        wait_for(page, first)
        page.uncheck("[name=boxes]")
        # The one between them was not sampled: it has the masks that its boxes are of.
        for frame, of in ((first, first), (first + 1, first), (first + 2, first + 2)):
            masks = painted(of, size)
            wait_for(page, frame)
            wait_for_masks(page, of, len(masks))
            seen = screen(page)
            page.keyboard.press("m")
            wait_for_masks(page, of, 0)
            bare = screen(page)
            assert read_index(bare) == frame
            assert are_seen(seen, bare, masks)
            assert not are_seen(seen, bare, masks[::-1])
            assert not any(are_seen(seen, bare, painted(other, size)) for other in (of - 2, of + 2))
            page.keyboard.press("m")
            page.keyboard.press("ArrowRight")


def test_masks_of_tracks_go_in_step_with_the_video(output: Path, address: str, chromium) -> None:
    """The browser's video is halted, of which the page knows nothing: it is looked at in peace."""
    video, size = video_of(output, "a.mp4")
    shown = "document.getElementById('boxes').dataset.frame"
    compared: list[int] = []
    with chromium_page(chromium) as page:
        page.goto(f"{address}#/video/{video}?frame=4&tracks=1")
        wait_for(page, 4)
        page.uncheck("[name=boxes]")
        wait_for_masks(page, 4, 3)
        page.select_option("[aria-label=Speed]", "0.1")
        page.click("#play")
        page.wait_for_selector(".player[data-source='video']")
        while len(compared) < 3:
            page.evaluate("document.querySelector('video').pause()")
            frame = int(page.evaluate(shown))
            masks = painted(frame - frame % 2, size)
            seen = screen(page)
            page.keyboard.press("m")
            bare = screen(page)
            page.keyboard.press("m")
            # Else one more frame came while it was being halted.
            if int(page.evaluate(shown)) == frame:
                assert read_index(bare) == frame
                assert are_seen(seen, bare, masks)
                compared.append(frame)
            page.evaluate("document.querySelector('video').play()")
            page.wait_for_selector(f".player:not([data-frame='{frame}'])")
        assert page.locator(".player").get_attribute("data-source") == "video"


def test_masks_come_where_they_are_asked_for(output: Path, address: str, chromium) -> None:
    video, _ = video_of(output, "a.mp4")
    asked: list[str] = []
    with chromium_page(chromium) as page:
        page.on("request", lambda one: asked.append(one.url.split("/")[-1].split("?")[0]))
        page.goto(f"{address}#/video/{video}?frame=10")
        wait_for(page, 10)
        page.wait_for_selector("#tracks button")
        wait_for_masks(page, 10, 1)
        assert "trackmasks" not in asked
        page.keyboard.press("m")
        page.keyboard.press("t")
        page.wait_for_selector("#boxes[data-what='tracks'][data-of='10']", state="attached")
        assert page.locator("#boxes").get_attribute("data-masks") == "0"
        assert "trackmasks" not in asked
        page.check("[name=masks]")
        wait_for_masks(page, 10, 2)
        assert page.locator("#sampled").inner_text() == "3 tracks, 1 lost"
        page.locator(".label", has_text="blue square").click()
        wait_for_masks(page, 10, 1)
