"""Pixels after drawing: edges where the rows say, colours as promised, nothing outside."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from pipeline.results.colors import class_color, oklab, text_color
from pipeline.results.draw import (
    MASK_OPACITY,
    Style,
    caption,
    draw_box,
    draw_caption,
    draw_detections,
    text_tile,
    timecode,
)

GREY = 100
STYLE = Style(line=2, text=10)


def blank(width: int = 64, height: int = 48) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def row(x1: float, y1: float, x2: float, y2: float, **more: object) -> dict[str, object]:
    found = {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "score": 0.9, "class_id": 0}
    return found | {"class_name": "cat", "mask": None} | more


def touched(picture: np.ndarray) -> np.ndarray:
    """bool (height, width): what differs from the blank picture."""
    return (picture != GREY).any(axis=2)


def test_an_outline_is_exactly_the_rim_of_its_box() -> None:
    picture = blank()
    draw_detections(picture, [row(10.4, 8.6, 30.4, 20.5)], labels=False, style=STYLE)
    expected = np.zeros((48, 64), bool)
    expected[9:20, 10:30] = True  # 20.5 rounds to even
    expected[11:18, 12:28] = False
    assert (touched(picture) == expected).all()
    assert (picture[expected] == class_color(0)).all()


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((-5, -5, 20, 20), (slice(0, 20), slice(0, 20))),
        ((50, 40, 90, 90), (slice(40, 48), slice(50, 64))),
        ((7, 9, 7, 9), (slice(9, 10), slice(7, 8))),
        ((7, 9, 9, 10), (slice(9, 10), slice(7, 9))),
        ((70, 5, 80, 9), (slice(0, 0), slice(0, 0))),
        ((-20, 5, -10, 9), (slice(0, 0), slice(0, 0))),
    ],
)
def test_boxes_at_and_over_the_border(box, expected) -> None:
    picture = blank()
    draw_box(picture, box, (1, 2, 3), line=2)
    mark = touched(picture)
    inside = np.zeros_like(mark)
    inside[expected] = True
    assert not mark[~inside].any()
    ys, xs = np.nonzero(mark)
    if inside.any():
        wanted = np.nonzero(inside)
        assert (ys.min(), ys.max()) == (wanted[0].min(), wanted[0].max())
        assert (xs.min(), xs.max()) == (wanted[1].min(), wanted[1].max())


def test_what_lies_beyond_the_picture_has_no_edge_at_its_border() -> None:
    picture = blank()
    draw_box(picture, (-5, 10, 20, 30), (1, 2, 3), line=2)
    assert not touched(picture)[12:28, 0:18].any()


def test_a_scaled_picture_takes_scaled_boxes() -> None:
    picture = blank(32, 24)
    draw_detections(picture, [row(20, 16, 40, 40)], labels=False, scale=(0.5, 0.25), style=STYLE)
    ys, xs = np.nonzero(touched(picture))
    assert (xs.min(), xs.max() + 1, ys.min(), ys.max() + 1) == (10, 20, 4, 10)


def rle(covered: np.ndarray) -> dict[str, object]:
    encoded = coco.encode(np.asfortranarray(covered.astype(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode("ascii")}


def test_a_mask_tints_what_it_covers_and_nothing_else() -> None:
    covered = np.zeros((48, 64), bool)
    covered[20:30, 5:9] = covered[25, 40] = True
    picture = blank()
    one = row(0, 0, 0, 0, mask=rle(covered), class_id=3)
    draw_detections(picture, [one], labels=False, style=STYLE)
    picture[0, 0] = GREY  # the box, which is one pixel
    assert (touched(picture) == covered).all()
    tint = GREY * (1 - MASK_OPACITY) + np.array(class_color(3)) * MASK_OPACITY
    assert np.abs(picture[25, 40] - tint).max() <= 0.5
    unmasked = blank()
    draw_detections(unmasked, [one], masks=False, labels=False, style=STYLE)
    assert touched(unmasked).sum() == 1


def test_a_mask_of_the_frame_fits_a_smaller_picture() -> None:
    covered = np.zeros((96, 128), bool)
    covered[40:60, 10:18] = True
    picture = blank()
    one = row(0, 0, 0, 0, mask=rle(covered))
    draw_detections(picture, [one], labels=False, scale=(0.5, 0.5), style=STYLE)
    picture[0, 0] = GREY
    ys, xs = np.nonzero(touched(picture))
    assert (ys.min(), ys.max() + 1, xs.min(), xs.max() + 1) == (20, 30, 5, 9)


def test_an_empty_mask_and_no_rows_change_nothing() -> None:
    picture = blank()
    draw_detections(picture, [])
    empty = rle(np.zeros((48, 64), bool))
    draw_detections(picture, [row(70, 5, 80, 9, mask=empty)], style=STYLE)
    assert not touched(picture).any()


def test_the_best_score_lies_on_top() -> None:
    picture = blank()
    rows = [row(10, 10, 30, 30, class_id=1), row(10, 10, 40, 30, class_id=2, score=0.3)]
    draw_detections(picture, rows, labels=False, style=STYLE)
    assert tuple(picture[10, 10]) == class_color(1)


@pytest.mark.parametrize("y1", [25.0, 2.0, -3.0])
@pytest.mark.parametrize("x1", [4.0, 60.0, -2.0])
def test_labels_stay_in_the_picture_and_have_the_class_colour(x1: float, y1: float) -> None:
    picture = blank(100, 60)
    draw_detections(picture, [row(x1, y1, x1 + 30, y1 + 30, class_id=5)], style=STYLE)
    tile = text_tile("cat 0.90", STYLE.text, class_color(5))
    found = [
        (y, x)
        for y in range(61 - len(tile))
        for x in range(101 - tile.shape[1])
        if (picture[y : y + len(tile), x : x + tile.shape[1]] == tile).all()
    ]
    assert len(found) == 1
    y, x = found[0]
    assert y == (25 - len(tile) if y1 == 25 else max(0, y1))
    assert x == max(0, min(x1, 100 - tile.shape[1]))
    assert len(np.unique(tile.reshape(-1, 3), axis=0)) > 3  # letters, smoothed


def test_texts_of_any_kind_can_be_written() -> None:
    for text in ("", "\n\x1b[31m", "человек", "x" * 5000, "🙂"):
        picture = blank(20, 12)
        draw_caption(picture, text, STYLE)
        assert picture.shape == (12, 20, 3)
    assert text_tile("x" * 5000, 10, (0, 0, 0)).shape[1] < 1000
    assert (text_tile("a\nb", 10, (0, 0, 0)) == text_tile("ab", 10, (0, 0, 0))).all()


def test_captions_name_frame_and_time() -> None:
    assert caption(1234, 41.1333333) == "frame 1,234  00:00:41.133"
    assert timecode(3599.9996) == "01:00:00.000"
    assert timecode(36_000 * 10 + 61.5) == "100:01:01.500"
    assert timecode(-0.04) == "-00:00:00.040"
    assert timecode(-0.0001) == "00:00:00.000"


def test_sizes_follow_the_picture() -> None:
    small, large = Style.of(160, 120), Style.of(3840, 2160)
    assert (small.line, small.text) == (2, 10)
    assert 6 <= large.line <= 12
    assert 40 <= large.text <= 80
    assert Style.of(1080, 1920) == Style.of(1920, 1080)


def test_colours_are_stable_and_far_apart() -> None:
    assert [class_color(i) for i in range(3)] == [class_color(i + 256) for i in range(3)]
    assert class_color(0) == (255, 51, 51)
    every = [class_color(i) for i in range(256)]
    assert len(set(every)) == 256
    for count, least in ((10, 0.16), (20, 0.11), (80, 0.055)):
        lab = oklab(np.array(every[:count]))
        apart = np.linalg.norm(lab[:, None] - lab[None], axis=2)
        assert apart[np.triu_indices(count, 1)].min() > least


@pytest.mark.parametrize("color", [(255, 255, 0), (0, 0, 120), (24, 24, 27), (0, 255, 0)])
def test_text_is_read_on_every_colour(color) -> None:
    ink = np.array(text_color(color))
    assert abs(oklab(np.array([color]))[0, 0] - oklab(ink[None])[0, 0]) > 0.35
