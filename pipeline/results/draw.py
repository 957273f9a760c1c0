"""Boxes, masks, labels and a caption on a picture, in place.

A box `x1, y1, x2, y2` covers the pixels from round(x1) up to, and without, round(x2); its outline
lies inside, so that edges are where the table says and nothing of it is outside::

    round(x1)           round(x2)
    | # # # # # # # # # |
    | #               # |      # one line; `Style.line` pixels in truth
    | # # # # # # # # # |

Outlines are drawn as whole pixels of the class' colour, without smoothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.results.colors import Color, class_color, text_color

if TYPE_CHECKING:
    from PIL import ImageFont

Image = npt.NDArray[np.uint8]
Row = Mapping[str, Any]
"""A row of `detections` or of `tracks`, of the mask column only where masks are drawn."""

MASK_OPACITY = 0.45
_CAPTION_COLOR: Color = (24, 24, 27)


@dataclass(frozen=True)
class Style:
    """Sizes in pixels that fit a picture."""

    line: int
    """Width of an outline."""
    text: int
    """Height of the letters' square."""

    @staticmethod
    def of(width: int, height: int) -> Style:
        """For a picture of this size: lines that are seen and text that is read, at any size."""
        shorter = min(width, height)
        return Style(line=max(2, round(shorter / 250)), text=max(10, round(shorter / 38)))


def draw_detections(
    picture: Image,
    rows: Iterable[Row],
    *,
    masks: bool = True,
    labels: bool = True,
    scale: tuple[float, float] = (1.0, 1.0),
    style: Style | None = None,
) -> None:
    """Draw rows of `detections`, the best score on top; rows of `tracks` with their ids, each in
    the colour of its track.

    Args:
        picture: RGB, uint8 (height, width, 3), displayed orientation; changed in place.
        rows: those of one frame, in any order.
        masks: fill what a mask covers, where a row has one.
        labels: write class and score at each box.
        scale: (horizontal, vertical) from pixels of the frame to pixels of `picture`, for a
            picture that was made smaller before.
    """
    height, width = picture.shape[:2]
    style = style or Style.of(width, height)
    ordered = sorted(rows, key=lambda row: row["score"])
    if masks:
        for row in ordered:
            if row.get("mask") is not None:
                draw_mask(picture, row["mask"], _color(row))
    boxes = [scaled_box(row, scale) for row in ordered]
    for row, box in zip(ordered, boxes, strict=True):
        draw_box(picture, box, _color(row), style.line)
    if labels:
        for row, box in zip(ordered, boxes, strict=True):
            draw_label(picture, _label(row), box, _color(row), style)


def _color(row: Row) -> Color:
    """Of the track where it is a row of one, else of the class."""
    return class_color(row["track_id"] - 1 if "track_id" in row else row["class_id"])


def _label(row: Row) -> str:
    text = f"{row['class_name']} {row['score']:.2f}"
    return f"{row['track_id']} {text}" if "track_id" in row else text


def scaled_box(row: Row, scale: tuple[float, float] = (1.0, 1.0)) -> tuple[int, int, int, int]:
    """Left, top, right, bottom in whole pixels; right and bottom are the first ones outside."""
    across, down = scale
    return (
        round(row["x1"] * across),
        round(row["y1"] * down),
        round(row["x2"] * across),
        round(row["y2"] * down),
    )


def draw_box(picture: Image, box: tuple[int, int, int, int], color: Color, line: int) -> None:
    """An outline of `line` pixels inside `box`, as much of it as lies in the picture.

    Where the box is too small to have an inside, all of it; one pixel at least.
    """
    height, width = picture.shape[:2]
    left, top, right, bottom = box
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    edges = (
        (left, top, right, top + line),
        (left, bottom - line, right, bottom),
        (left, top, left + line, bottom),
        (right - line, top, right, bottom),
    )
    for x1, y1, x2, y2 in edges:
        x1, y1, x2, y2 = max(x1, left, 0), max(y1, top, 0), min(x2, right), min(y2, bottom)
        if x1 < min(x2, width) and y1 < min(y2, height):
            picture[y1:y2, x1:x2] = color


def draw_mask(picture: Image, mask: Mapping[str, Any], color: Color) -> None:
    """Blend `color` over the pixels of a mask.

    Args:
        mask: COCO run-length encoding, compressed; `size` is (height, width) of the frame. Where
            the picture has another size, the mask is brought to that.
    """
    from pycocotools import mask as coco

    covered = coco.decode({"size": list(mask["size"]), "counts": mask["counts"].encode("ascii")})
    height, width = picture.shape[:2]
    if covered.shape != (height, width):
        import cv2

        covered = cv2.resize(covered, (width, height), interpolation=cv2.INTER_NEAREST)
    rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
    if not len(rows):
        return
    inside = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    at = covered[inside].astype(bool)
    part = picture[inside]
    blended = part[at] * (1 - MASK_OPACITY) + np.array(color, np.float32) * MASK_OPACITY
    part[at] = np.round(blended).astype(np.uint8)


def draw_label(
    picture: Image, text: str, box: tuple[int, int, int, int], color: Color, style: Style
) -> None:
    """`text` on its colour, above the box where there is room, else inside at its top."""
    tile = text_tile(text, style.text, color)
    height, width = picture.shape[:2]
    left, top, right, bottom = box
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        return
    y = top - len(tile) if top >= len(tile) else max(top, 0)
    _paste(picture, tile, min(left, width - tile.shape[1]), y)


def draw_caption(picture: Image, text: str, style: Style | None = None) -> None:
    """`text` in the upper left corner, on a dark ground."""
    height, width = picture.shape[:2]
    style = style or Style.of(width, height)
    _paste(picture, text_tile(text, style.text, _CAPTION_COLOR), 0, 0)


def caption(frame_index: int, pts_s: float) -> str:
    """What tells a frame apart: `frame 1,234  00:00:41.133`."""
    return f"frame {frame_index:,}  {timecode(pts_s)}"


def timecode(seconds: float) -> str:
    """hh:mm:ss.mmm."""
    total_ms = round(abs(seconds) * 1000)
    minutes, ms = divmod(total_ms, 60_000)
    sign = "-" if seconds < 0 and total_ms else ""
    return f"{sign}{minutes // 60:02}:{minutes % 60:02}:{ms // 1000:02}.{ms % 1000:03}"


@lru_cache(maxsize=2048)
def text_tile(text: str, size: int, background: Color) -> Image:
    """A line of text as a picture, uint8 (rows, columns, 3), not to be written to.

    What cannot be printed is left out, and a long text cut: a model may call a class anything.
    """
    from PIL import Image as Pillow
    from PIL import ImageDraw

    shown = "".join(c for c in text if c.isprintable())
    shown = shown if len(shown) <= _MOST_LETTERS else shown[: _MOST_LETTERS - 1] + "…"
    font = _font(size)
    pad = max(2, size // 4)
    ascent, descent = font.getmetrics()
    columns = int(np.ceil(font.getlength(shown))) + 2 * pad
    tile = Pillow.new("RGB", (columns, ascent + descent + pad), background)
    at = (pad, pad // 2)
    ImageDraw.Draw(tile).text(at, shown, fill=text_color(background), font=font)
    pixels = np.array(tile)
    pixels.flags.writeable = False
    return pixels


_MOST_LETTERS = 60


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own, so that pictures look the same on every machine."""
    from PIL import ImageFont

    return ImageFont.load_default(size)  # type: ignore[return-value]


def _paste(picture: Image, tile: Image, x: int, y: int) -> None:
    """Put `tile` at (x, y), as much of it as lies in the picture."""
    x, y = max(x, 0), max(y, 0)
    target = picture[y : y + tile.shape[0], x : x + tile.shape[1]]
    target[...] = tile[: target.shape[0], : target.shape[1]]
