"""What an output holds, written in the formats of other tools: one module each.

Every module has `export(job) -> Counts`: it streams the frames that are meant in the order of
(video_id, frame_index), and the target appears under its name when it is whole.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.results.export.job import Counts, Job, PictureFormat

FORMATS: dict[str, PictureFormat | None] = {
    "npy": None,
    "sqlite": None,
    "coco": None,
    "mot": None,
    "lance": None,
    "webdataset": "jpg",
    "fiftyone": None,
    "rerun": "jpg",
}
"""Formats, and how each writes pictures where nothing is said of them."""
_PICTURES = ("coco", "webdataset", "rerun")
"""Formats that can hold pictures."""


def export(job: Job, to: str, pictures: str | None = None) -> Counts:
    """Write `job` in a format.

    Args:
        pictures: `jpg`, `png`, `none`, or what the format does by itself.

    Raises UsageError for a format or pictures that are not, a target that is there already, or
    rows that do not fit; VideoError, naming the file, where a video is gone or has other bytes.
    """
    if to not in FORMATS:
        raise UsageError(f"--to {to}: no format known here; there are {', '.join(FORMATS)}")
    if pictures not in (None, "jpg", "png", "none"):
        raise UsageError(f"--pictures {pictures}: give jpg, png or none")
    if pictures in ("jpg", "png") and to not in _PICTURES:
        raise UsageError(f"--pictures {pictures}: {to} holds none; {', '.join(_PICTURES)} do")
    kinds: dict[str | None, PictureFormat | None] = {None: FORMATS[to], "jpg": "jpg", "png": "png"}
    module = importlib.import_module(f"pipeline.results.export.{to}")
    counts: Counts = module.export(replace(job, pictures=kinds.get(pictures)))
    return counts
