"""A few frames of a video with their boxes, small, as text that a page can hold."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.durations import clock
from pipeline.results.boxes import BoxChoice, Boxes
from pipeline.results.draw import Style, draw_detections
from pipeline.results.pixels import read_frames

if TYPE_CHECKING:
    from pipeline.ledger.reader import Ledger

WIDTH = 320
"""Pixels of a picture's longer side."""
_QUALITY = 82
_STYLE = Style(line=2, text=10)
_CHOICE = BoxChoice(between="none")


@dataclass(frozen=True)
class SmallPicture:
    """A frame for a page."""

    frame_index: int
    time: str
    boxes: int
    url: str
    """`data:image/jpeg;base64,...`."""
    width: int
    height: int


def spread_over(ledger: Ledger, video_id: str, count: int) -> list[SmallPicture]:
    """Up to `count` sampled frames, evenly over the video, with their boxes.

    Raises VideoError where the file is gone, has other bytes now or cannot be decoded.
    """
    sampled = Boxes(ledger, video_id, _CHOICE).sampled
    if not len(sampled):
        return []
    places = ((np.arange(count) + 0.5) / count * len(sampled)).astype(np.int64)
    return small_pictures(ledger, video_id, sorted({int(sampled[place]) for place in places}))


def small_pictures(ledger: Ledger, video_id: str, frames: list[int]) -> list[SmallPicture]:
    """These frames with their boxes, ascending. Raises VideoError as `spread_over`."""
    boxes = Boxes(ledger, video_id, _CHOICE)
    index = ledger.index(video_id)
    found = []
    for frame_index, rgb in read_frames(ledger, video_id, frames):
        shown = boxes.on(frame_index)
        small = smaller(rgb)
        scale = small.shape[1] / rgb.shape[1], small.shape[0] / rgb.shape[0]
        draw_detections(small, shown, labels=False, scale=scale, style=_STYLE)
        height, width = small.shape[:2]
        time = clock(float(index.pts_seconds(index.pts[frame_index : frame_index + 1])[0]))
        picture = SmallPicture(frame_index, time, len(shown), as_url(small), width, height)
        found.append(picture)
    return found


def smaller(rgb: np.ndarray, side: int = WIDTH) -> np.ndarray:
    """The picture with its longer side `side` pixels; itself where it is no larger."""
    import cv2

    height, width = rgb.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return rgb
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)


def as_url(rgb: np.ndarray) -> str:
    """A JPEG inside a URL."""
    import cv2

    bgr = np.ascontiguousarray(rgb[:, :, ::-1])
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
