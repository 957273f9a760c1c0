"""What every export shares: what is asked for, what came of it, names and pictures."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.ledger.schema import SCHEMA_VERSION
from pipeline.results.joined import CUT_FRAMES, join
from pipeline.results.pictures import Pictures
from pipeline.results.where import Where

if TYPE_CHECKING:
    from pipeline.ledger.frame import Frame, FrameBatch
    from pipeline.ledger.reader import Ledger

PictureFormat = Literal["jpg", "png"]
BOX = ["x1", "y1", "x2", "y2", "score", "class_id", "class_name", "mask", "keypoints"]
"""Columns of `detections` that a box carries along."""
_JPEG_QUALITY = 95
_PICTURE_FRAMES = 256
"""Frames of one range where their pictures are decoded."""


@dataclass
class Counts:
    """What an export wrote."""

    videos: int = 0
    frames: int = 0
    boxes: int = 0
    embeddings: int = 0
    without_picture: int = 0
    """Frames left out because they could not be decoded."""
    _last: str = ""

    def add(self, frame: Frame) -> None:
        """One frame more, in the order of (video_id, frame_index)."""
        self.videos += frame.video_id != self._last
        self._last = frame.video_id
        self.frames += 1
        self.boxes += frame.detections.num_rows
        self.embeddings += frame.embedding is not None


@dataclass(frozen=True)
class Job:
    """An export as it was asked for."""

    ledger: Ledger
    path: Path
    where: Where = field(default_factory=Where)
    overwrite: bool = False
    pictures: PictureFormat | None = None
    """How pictures are written, where they are."""

    def batches(self, *, boxes: bool = True, embeddings: bool = True) -> Iterator[FrameBatch]:
        """The frames that are meant, in order, a bounded number at a time."""
        return join(self.ledger, self.where, boxes=boxes, embeddings=embeddings).batches()

    def frames(self, counts: Counts) -> Iterator[tuple[Frame, bytes | None]]:
        """Frames that could be decoded, each with its picture as a file where those are wanted.

        Raises VideoError, naming the file, where one is gone or has other bytes now.
        """
        cut_frames = _PICTURE_FRAMES if self.pictures else CUT_FRAMES
        pictures = Pictures(self.ledger) if self.pictures else None
        for batch in join(self.ledger, self.where, cut_frames=cut_frames).batches():
            decodable = [frame for frame in batch if frame.row["status"] == "ok"]
            counts.without_picture += len(batch) - len(decodable)
            if pictures is None or self.pictures is None:
                found: Any = ((frame, None) for frame in decodable)
            else:
                kind = self.pictures
                found = ((f, encode_picture(rgb, kind)) for f, rgb in pictures.of(batch))
            for frame, picture in found:
                counts.add(frame)
                yield frame, picture

    def videos(self) -> Videos:
        """What is known of the videos, now."""
        return Videos(self.ledger)

    def about(self) -> dict[str, object]:
        """Where the rows come from: the analyses that are current, and what each is."""
        from pipeline.ledger.analyses import newest_analyses

        newest = newest_analyses(self.ledger.analyses())
        return {
            "output": self.ledger.output,
            "schema_version": SCHEMA_VERSION,
            "analyses": {
                name: {"fingerprint": one.fingerprint, "table": one.table, **one.identity}
                for name, one in newest.items()
            },
        }


class Videos:
    """The row of `videos` of each content: where files share it, that of the first by uri."""

    def __init__(self, ledger: Ledger) -> None:
        rows = ledger.videos()
        ids = rows.column("video_id").to_pylist()
        # Contents in work have no row yet.
        self._at = {video_id: at for at, video_id in reversed(list(enumerate(ids))) if video_id}
        self._rows = rows

    def row(self, video_id: str) -> dict[str, Any]:
        """Its columns; empty where the video is still in work."""
        at = self._at.get(video_id)
        found: dict[str, Any] = self._rows.slice(at, 1).to_pylist()[0] if at is not None else {}
        return found

    def uri(self, video_id: str) -> str | None:
        """Its file; None where the video is still in work."""
        at = self._at.get(video_id)
        return self._rows.column("uri")[at].as_py() if at is not None else None


def encode_picture(rgb: np.ndarray, kind: PictureFormat) -> bytes:
    """A picture, uint8 (height, width, 3), as the bytes of a PNG, or of a JPEG of quality 95."""
    from PIL import Image

    file = io.BytesIO()
    options = {"quality": _JPEG_QUALITY} if kind == "jpg" else {"compress_level": 3}
    Image.fromarray(rgb).save(file, format={"jpg": "JPEG", "png": "PNG"}[kind], **options)
    return file.getvalue()


def folder_name(video_id: str, uri: str | None) -> str:
    """A short name of a video that no other has: of its file, and of its content."""
    stem = os.path.splitext(os.path.basename(uri or ""))[0]
    safe = re.sub(r"[^\w-]+", "_", stem)[:60].strip("_")
    return f"{safe}-{video_id[:12]}" if safe else video_id[:12]


def boxes_of(frame: Frame) -> list[dict[str, Any]]:
    """The boxes of a frame as JSON has them, without what the frame itself says."""
    return frame.detections.select(BOX).to_pylist()
