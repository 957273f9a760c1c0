"""What a pass over landed rows reads: a shard's frames and boxes as arrays, and a saved state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ledger.files import Files
from pipeline.ledger.remap import owned_range
from pipeline.ledger.scan import read_table
from pipeline.ledger.store import Store
from pipeline.records import ShardTask

_FRAME = ["frame_index", "pts_s", "width", "height", "status"]
_SIDES = ["x1", "y1", "x2", "y2"]
_BOX = ["frame_index", "detection_index", *_SIDES, "score", "class_id", "class_name"]


@dataclass(frozen=True)
class ShardRows:
    """The frames of a shard that were decoded, `n` of them, and their `m` boxes.

    The first `lead` of them are of the shard before, for one that is followed apart from it.
    """

    frames: np.ndarray
    """int64 (n,): frame indices, ascending."""
    pts_s: np.ndarray
    """float64 (n,)"""
    sizes: np.ndarray
    """int64 (n, 2): width and height."""
    begins: np.ndarray
    """int64 (n + 1,): the boxes of frame i are `begins[i]` to `begins[i + 1]`, by their
    detection_index, which counts from 0 in each frame."""
    xyxy: np.ndarray
    """float64 (m, 4)"""
    scores: np.ndarray
    """float64 (m,)"""
    class_ids: np.ndarray
    """int64 (m,)"""
    class_names: dict[int, str]
    lead: int = 0


class LandedRows:
    """The rows of an output as they are when this is made.

    Args:
        output: has its tables.
        frames, detections, tracks: fingerprints of the analyses.
    """

    def __init__(self, output: str, frames: str, detections: str, tracks: str) -> None:
        store = Store(output)
        # All rows of `videos` are of no analysis.
        wanted = {"shards": tracks, "detections": detections, "frames": frames, "videos": ""}
        wanted["tracks"] = tracks
        self._files = {
            table: (store.files(table, store.open(table)), fingerprint)
            for table, fingerprint in wanted.items()
        }

    def shard(self, task: ShardTask, first: int | None = None) -> ShardRows:
        """The frames and boxes of one shard, or from the frame index `first` before it on."""
        own, last = owned_range(task)
        first = own if first is None else first
        of_shard = (pc.field("frame_index") >= first) & (pc.field("frame_index") <= last)
        video_id = task.index.video_id
        frames = self._rows("frames", _FRAME, video_id, of_shard).sort_by("frame_index")
        frames = frames.filter(pc.equal(frames.column("status"), "ok"))
        boxes = self._rows("detections", _BOX, video_id, of_shard)
        order = [("frame_index", "ascending"), ("detection_index", "ascending")]
        boxes = boxes.sort_by(order)
        indices = frames.column("frame_index").to_numpy()
        sizes = [frames.column(side).to_numpy() for side in ("width", "height")]
        of_frame = boxes.column("frame_index").to_numpy()
        begins = np.append(np.searchsorted(of_frame, indices), len(of_frame))
        sides = [boxes.column(side).to_numpy().astype(np.float64) for side in _SIDES]
        named = boxes.group_by(["class_id", "class_name"]).aggregate([])
        ids, names = (named.column(column).to_pylist() for column in ("class_id", "class_name"))
        return ShardRows(
            frames=indices,
            pts_s=frames.column("pts_s").to_numpy(),
            sizes=np.stack(sizes, axis=1).astype(np.int64),
            begins=begins,
            xyxy=np.stack(sides, axis=1),
            scores=boxes.column("score").to_numpy().astype(np.float64),
            class_ids=boxes.column("class_id").to_numpy().astype(np.int64),
            class_names=dict(zip(ids, names, strict=True)),
            lead=int(np.searchsorted(indices, own)),
        )

    def state(self, video_id: str, shard_index: int) -> str | None:
        """What a tracker goes on with behind a shard that has landed."""
        this = pc.field("shard_index") == shard_index
        found = self._rows("shards", ["state"], video_id, this).column("state")
        return found[0].as_py() if len(found) else None

    def track_ids(self, task: ShardTask) -> list[tuple[int, int]]:
        """(frame_index, track_id) of the tracks of one shard, in order."""
        first, last = owned_range(task)
        of_shard = (pc.field("frame_index") >= first) & (pc.field("frame_index") <= last)
        columns = ["frame_index", "track_id"]
        rows = self._rows("tracks", columns, task.index.video_id, of_shard)
        rows = rows.sort_by([(name, "ascending") for name in columns])
        return list(zip(*(rows.column(name).to_pylist() for name in columns), strict=True))

    def uris(self) -> Iterator[str]:
        """Of all files that the output knows, some of them more than once."""
        for batch in self._files["videos"][0].all.to_batches(columns=["uri"]):
            yield from batch.column("uri").to_pylist()

    def places(self, video_id: str) -> tuple[tuple[str, str], ...]:
        """(uri, stamp) of the files that have had the content."""
        found = self._files["videos"][0].rows(video_id=video_id).select(["uri", "stamp"])
        return tuple(sorted({(row["uri"], row["stamp"]) for row in found.to_pylist()}))

    def _rows(
        self, table: str, columns: list[str], video_id: str, wanted: pc.Expression
    ) -> pa.Table:
        files: Files
        files, fingerprint = self._files[table]
        few = files.known(analysis=fingerprint, video_id=video_id)
        return read_table(few, columns, wanted & (pc.field("video_id") == video_id))
