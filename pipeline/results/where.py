"""Which rows are meant: by video, frames, time, class and score."""

from __future__ import annotations

import fnmatch
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.ledger.reader import Ledger

_GLOB = "*?["


@dataclass(frozen=True)
class Where:
    """Rows that match all that is given; all rows without anything.

    Raises UsageError for a range that ends before it begins.
    """

    video: str | tuple[str, ...] | None = None
    """uri, the last part of one, video_id, or a glob over uris or last parts: `cam-1*.mp4`. A name
    is that of the newest content; an id may be that of one which no file has any more."""
    frames: tuple[int, int | None] | None = None
    """[start, stop) of frame indices; to the end where stop is None."""
    seconds: tuple[float, float | None] | None = None
    """[start, stop) of pts_s."""
    classes: tuple[str, ...] = ()
    """Boxes of these class names, and the frames that have any."""
    min_score: float | None = None
    """Boxes of at least this score, and the frames that have any."""

    def __post_init__(self) -> None:
        for name in ("frames", "seconds"):
            start, stop = getattr(self, name) or (0, None)
            if stop is not None and stop < start:
                raise UsageError(f"{name} {start} to {stop}: the range ends before it begins")

    @property
    def about_boxes(self) -> bool:
        """Whether frames are chosen by their boxes."""
        return bool(self.classes) or self.min_score is not None

    def of_frames(self) -> pc.Expression | None:
        """What holds of the rows of every data table; videos are another matter."""
        parts = []
        for column, bounds in (("frame_index", self.frames), ("pts_s", self.seconds)):
            if bounds is not None:
                parts.append(pc.field(column) >= bounds[0])
                if bounds[1] is not None:
                    parts.append(pc.field(column) < bounds[1])
        return every(parts)

    def of_boxes(self) -> pc.Expression | None:
        """What holds of the rows of `detections` beside that."""
        parts = []
        if self.classes:
            parts.append(pc.field("class_name").isin(list(self.classes)))
        if self.min_score is not None:
            # The column is float32: 0.9 has to mean the 0.9 that is in it.
            parts.append(pc.field("score") >= pa.scalar(self.min_score, pa.float32()))
        return every(parts)


def every(parts: list[pc.Expression]) -> pc.Expression | None:
    """All of the expressions at once; None without any."""
    whole = None
    for part in parts:
        whole = part if whole is None else whole & part
    return whole


def video_ids(ledger: Ledger, video: str | tuple[str, ...] | None) -> list[str] | None:
    """The contents that are meant, ascending; None for all that are current.

    Raises UsageError where a name is that of no video and no glob that finds one.
    """
    if video is None:
        return None
    found: set[str] = set()
    for name in (video,) if isinstance(video, str) else video:
        found.update(_named(ledger, name))
    return sorted(found)


def _named(ledger: Ledger, name: str) -> set[str]:
    if set(name) & set(_GLOB):
        return _globbed(ledger, name) or {ledger.video_id(name)}
    try:
        return {ledger.video_id(name)}
    except UsageError:
        found = _globbed(ledger, name)
        if not found:
            raise
        return found


def _globbed(ledger: Ledger, pattern: str) -> set[str]:
    rows = ledger.videos().select(["uri", "video_id"])
    pairs = zip(*(column.to_pylist() for column in rows.columns), strict=True)
    return {video_id for uri, video_id in pairs if video_id and matches(uri, pattern)}


def matches(uri: str, pattern: str) -> bool:
    """Whether a name or a glob is that of a uri as a whole, or of its last part."""
    names = (uri, os.path.basename(uri))
    return any(pattern == name or fnmatch.fnmatchcase(name, pattern) for name in names)
