"""What is drawn over the pictures of a video, read from the Ledger, as plain values.

Frames are asked for by a stretch, [start, stop), which whoever asks keeps short.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ledger.analyses import newest_analyses
from pipeline.results.colors import hex_of

if TYPE_CHECKING:
    from pipeline.ledger.reader import Ledger

_BOX = ("frame_index", "x1", "y1", "x2", "y2", "score", "class_id")
_MASK = ("frame_index", "class_id", "score", "mask")


def boxes(ledger: Ledger, video_id: str, start: int, stop: int) -> dict[str, Any]:
    """The frames of [start, stop) that the detector saw, and its boxes, best score first."""
    wanted = _stretch(video_id, start, stop)
    rows = ledger.table("detections", [*_BOX, "class_name"], wanted)
    rows = rows.sort_by([("frame_index", "ascending"), ("score", "descending")])
    return {
        "sampled": _looked_at(ledger, "detector", wanted),
        "boxes": _listed(rows, _BOX),
        "classes": _classes(rows),
    }


def masks(ledger: Ledger, video_id: str, start: int, stop: int) -> dict[str, Any]:
    """Masks of the frames of [start, stop), as COCO's compressed run lengths, the best score
    last: it is drawn on top."""
    wanted = _stretch(video_id, start, stop) & pc.field("mask").is_valid()
    rows = ledger.table("detections", [*_MASK, "class_name"], wanted)
    rows = rows.sort_by([("frame_index", "ascending"), ("score", "ascending")])
    return {"masks": _masks_of(rows), "classes": _classes(rows)}


def tracks(ledger: Ledger, video_id: str, start: int, stop: int) -> dict[str, Any]:
    """The frames of [start, stop) that the tracker went through, and its boxes, the older track
    first: as detections, then the track and whether it is lost. A lost one has no score."""
    wanted = _stretch(video_id, start, stop)
    columns = [*_BOX, "track_id"]
    rows = ledger.table("tracks", [*columns, "state", "class_name"], wanted)
    rows = rows.sort_by([("frame_index", "ascending"), ("track_id", "ascending")])
    rows = rows.append_column("lost", pc.equal(rows.column("state"), "lost"))
    return {
        "sampled": _looked_at(ledger, "tracker", wanted),
        "boxes": _listed(rows, [*columns, "lost"]),
        "colors": _track_colors(rows),
        "classes": _classes(rows),
    }


def track_masks(ledger: Ledger, video_id: str, start: int, stop: int) -> dict[str, Any]:
    """Masks of tracks: as those of detections, then the track. A lost one has none."""
    wanted = _stretch(video_id, start, stop) & pc.field("mask").is_valid()
    rows = ledger.table("tracks", [*_MASK, "track_id"], wanted)
    order = ("frame_index", "score", "track_id")
    rows = rows.sort_by([(name, "ascending") for name in order])
    return {"masks": _masks_of(rows, "track_id"), "colors": _track_colors(rows)}


def track_row(row: dict[str, Any]) -> dict[str, Any]:
    """A track of a list, from its row in `tracks.summary.SUMMARY`."""
    shown = ("first_frame", "last_frame", "first_s", "last_s", "frames", "lost_frames")
    return {
        "id": row["track_id"],
        "color": _track_color(row["track_id"]),
        "class": class_row(row["class_id"], row["class_name"]),
        "mean_score": row["mean_score"],
        **{name: row[name] for name in shown},
    }


def class_row(class_id: int, name: str, boxes: int | None = None) -> dict[str, Any]:
    """A class with its colour."""
    found = {"id": class_id, "name": name, "color": hex_of(class_id)}
    return found if boxes is None else found | {"boxes": boxes}


def _track_color(track_id: int) -> str:
    """As `frameledger render --tracks` has it."""
    return hex_of(track_id - 1)


def _track_colors(rows: pa.Table) -> list[list[Any]]:
    ids = np.unique(rows.column("track_id").to_numpy()).tolist()
    return [[track_id, _track_color(track_id)] for track_id in ids]


def _stretch(video_id: str, start: int, stop: int) -> pc.Expression:
    frame = pc.field("frame_index")
    return (pc.field("video_id") == video_id) & (frame >= start) & (frame < stop)


def _looked_at(ledger: Ledger, name: str, wanted: pc.Expression) -> list[int]:
    """The frames that an analyzer looked at, which the newest run may not have been."""
    analysis = newest_analyses(ledger.analyses()).get(name)
    frames = str(analysis.identity["frames"]) if analysis is not None else None
    there = wanted & (pc.field("status") == "ok")
    rows = ledger.table("frames", ["frame_index"], there, frames)
    return np.sort(rows.column("frame_index").to_numpy()).tolist()


def _listed(rows: pa.Table, columns: Sequence[str]) -> list[list[Any]]:
    values = [rows.column(name).to_pylist() for name in columns]
    return [list(row) for row in zip(*values, strict=True)]


def _masks_of(rows: pa.Table, *more: str) -> list[list[Any]]:
    found = []
    for row in rows.to_pylist():
        mask, others = row["mask"], [row[name] for name in more]
        found.append([row["frame_index"], row["class_id"], mask["size"], mask["counts"], *others])
    return found


def _classes(rows: pa.Table) -> list[dict[str, Any]]:
    names = dict(zip(rows["class_id"].to_pylist(), rows["class_name"].to_pylist(), strict=True))
    return [class_row(class_id, name) for class_id, name in sorted(names.items())]
