"""A contact sheet: the frames that a search found on one picture, best first."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.durations import clock
from pipeline.results.draw import draw_detections

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

    from pipeline.results.draw import Row
    from pipeline.results.search import Hit

CELL = (384, 216)
"""Width and height that a frame is fitted into."""
_MOST_COLUMNS = 5
_GAP, _MARGIN, _HEADER, _CAPTION = 20, 32, 84, 62
_BACKGROUND, _SLOT, _TEXT, _DIM, _ACCENT = "#14161a", "#1d2026", "#f2f3f5", "#9aa0aa", "#f5b83d"


def thumbnail(rgb: np.ndarray, boxes: Iterable[Row] = ()) -> Image:
    """A frame, uint8 (height, width, 3), made to fit a cell, with boxes on it; never larger than
    twice itself."""
    from PIL import Image

    height, width = rgb.shape[:2]
    scale = min(CELL[0] / width, CELL[1] / height, 2.0)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.array(Image.fromarray(rgb).resize(size, Image.Resampling.LANCZOS))
    draw_detections(small, boxes, labels=False, scale=(size[0] / width, size[1] / height))
    return Image.fromarray(small)


def contact_sheet(
    title: str, hits: Sequence[Hit], thumbnails: Mapping[int, Image], note: str = ""
) -> Image:
    """The sheet, RGB.

    Args:
        title: what was searched for.
        thumbnails: by rank; a hit without one has an empty slot that says so.
        note: a line under the title, such as filters.
    """
    from PIL import Image, ImageDraw

    columns = max(1, min(_MOST_COLUMNS, math.ceil(math.sqrt(max(1, len(hits))))))
    rows = max(1, math.ceil(len(hits) / columns))
    step = CELL[0] + _GAP, CELL[1] + _CAPTION + _GAP
    width = 2 * _MARGIN + columns * step[0] - _GAP
    height = _MARGIN + _HEADER + rows * step[1] - _GAP + _MARGIN
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    room = width - 2 * _MARGIN
    large, small = _font(30), _font(17)
    draw.text((_MARGIN, _MARGIN - 6), _fitted(draw, title, large, room), _TEXT, large)
    draw.text((_MARGIN, _MARGIN + 38), _fitted(draw, note, small, room), _DIM, small)
    for place, hit in enumerate(hits):
        row, column = divmod(place, columns)
        at = _MARGIN + column * step[0], _MARGIN + _HEADER + row * step[1]
        _cell(sheet, draw, at, hit, thumbnails.get(hit.rank))
    return sheet


def _cell(
    sheet: Image, draw: ImageDraw, at: tuple[int, int], hit: Hit, picture: Image | None
) -> None:
    """One frame with its caption: name and score, then which frame or track, and the time."""
    x, y = at
    right, bottom = x + CELL[0], y + CELL[1]
    draw.rectangle((x, y, right - 1, bottom - 1), _SLOT)
    bold, small = _font(18), _font(15)
    if picture is None:
        draw.text(((x + right) / 2, (y + bottom) / 2), "no picture", _DIM, small, anchor="mm")
    else:
        left, top = (CELL[0] - picture.width) // 2, (CELL[1] - picture.height) // 2
        sheet.paste(picture, (x + left, y + top))
    score = f"{hit.score:.3f}"
    taken = draw.textlength(score, bold) + 14
    name = f"{hit.rank}. {os.path.basename(hit.uri) or hit.video_id[:12]}"
    draw.text((x, bottom + 8), _fitted(draw, name, bold, CELL[0] - taken), _TEXT, bold)
    draw.text((right, bottom + 8), score, _ACCENT, bold, anchor="ra")
    span = ""
    if hit.end_frame > hit.start_frame:
        span = f"{clock(hit.start_s)} to {clock(hit.end_s)}"
        draw.text((right, bottom + 34), span, _DIM, small, anchor="ra")
    room = CELL[0] - draw.textlength(span, small) - 14
    draw.text((x, bottom + 34), _fitted(draw, hit.caption, small, room), _DIM, small)


def _fitted(draw: ImageDraw, text: str, font: FreeTypeFont | ImageFont, room: float) -> str:
    """Cut in its middle where it is too long: both ends of a file name tell it from others."""
    text = " ".join(text.split())
    if draw.textlength(text, font) <= room:
        return text
    for kept in range(len(text) - 1, 1, -1):
        cut = f"{text[: (kept + 1) // 2]}...{text[len(text) - kept // 2 :]}"
        if draw.textlength(cut, font) <= room:
            return cut
    return ""


def _font(size: int) -> FreeTypeFont | ImageFont:
    """The font that Pillow carries: the same on every machine."""
    from PIL import ImageFont

    return ImageFont.load_default(size)
