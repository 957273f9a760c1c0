"""`frameledger show`: one frame, all that is known of it, and its picture with the boxes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.ledger.reader import Ledger
from pipeline.results.draw import caption, draw_caption, draw_detections
from pipeline.results.pixels import read_frames
from pipeline.results.target import whole
from pipeline.results.videos import find_video

if TYPE_CHECKING:
    from pipeline.ledger.reader import Frame


@dataclass(frozen=True)
class Shown:
    """A sampled frame as the tables have it."""

    uri: str
    frame: Frame

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        embedding = self.frame.embedding
        return {
            "uri": self.uri,
            "frame": self.frame.row,
            "detections": self.frame.detections.to_pylist(),
            "embedding_size": None if embedding is None else len(embedding),
        }


def show(output: str, video: str, frame_index: int) -> Shown:
    """What the newest analyses say of a frame.

    Args:
        video: see `videos.find_video`.

    Raises UsageError where there is no such video, or the frame was not sampled.
    """
    import pyarrow.compute as pc

    ledger = Ledger(output)
    name = find_video(ledger, video)
    frame = ledger.frame(name, frame_index)
    uris = ledger.table("videos", ["uri"], pc.field("video_id") == frame.video_id).column("uri")
    known = sorted(set(uris.to_pylist()))
    return Shown(name if name in known else known[0] if known else name, frame)


def picture_of(output: str, shown: Shown, *, masks: bool = True, labels: bool = True) -> np.ndarray:
    """The frame decoded, with its boxes: RGB, uint8 (height, width, 3), as displayed.

    Raises VideoError where the file is gone, has other bytes now or cannot be decoded.
    """
    ledger = Ledger(output)
    frame = shown.frame
    ((_, rgb),) = read_frames(ledger, frame.video_id, [frame.frame_index])
    draw_detections(rgb, frame.detections.to_pylist(), masks=masks, labels=labels)
    draw_caption(rgb, caption(frame.frame_index, frame.row["pts_s"]))
    return rgb


def write_png(target: Path, rgb: np.ndarray) -> None:
    """Write a picture. Raises RunAborted where that fails."""
    import cv2

    _, data = cv2.imencode(".png", np.ascontiguousarray(rgb[:, :, ::-1]))
    with whole(target) as part:
        part.write_bytes(data.tobytes())
