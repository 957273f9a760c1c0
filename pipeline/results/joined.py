"""Frames with their boxes and embeddings, read in order, a bounded range at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import UsageError
from pipeline.ledger.frame import FrameBatch
from pipeline.results.ranges import Cut, cuts_of
from pipeline.results.where import Where, every, video_ids

if TYPE_CHECKING:
    from pipeline.ledger.reader import Ledger
    from pipeline.ledger.scan import View

CUT_FRAMES = 4096
"""Frames read at once: eight row groups of `embeddings`, 8 MiB where they have 512 dimensions."""
_BITS = 40
"""Of a key that hold the frame index; the rest number the videos of one cut."""


@dataclass(frozen=True)
class Joined:
    """Frames, boxes and embeddings of one moment, cut into ranges. Can be pickled."""

    frames: View
    boxes: View | None
    vectors: View | None
    where: Where
    video_ids: list[str] | None
    cuts: list[Cut]

    def read(self, cut: Cut) -> FrameBatch:
        """The frames of a range; those without a box that `where` asks for left out.

        Boxes and embeddings of frames that the newest sampling has not are left out too. Raises
        UsageError where embeddings differ in length.
        """
        wanted = self._of(cut)
        rows = self.frames.also(wanted).table()
        ids = rows.column("video_id").unique().sort()
        rows, keys = _in_order(rows, ids)
        boxes, box_keys = _part(self.boxes, wanted, ids, self.where.of_boxes())
        if self.where.about_boxes:
            here = np.isin(keys, box_keys)
            rows, keys = rows.filter(pa.array(here)), keys[here]
        box_at = _places(keys, box_keys)
        boxes, box_at = boxes.filter(pa.array(box_at >= 0)), box_at[box_at >= 0]
        vectors, vector_keys = _part(self.vectors, wanted, ids)
        vector_at = _places(keys, vector_keys)
        vector_of = np.full(len(keys), -1, np.int64)
        vector_of[vector_at[vector_at >= 0]] = np.arange(np.count_nonzero(vector_at >= 0))
        return FrameBatch(
            frames=rows,
            boxes=boxes,
            offsets=np.searchsorted(box_at, np.arange(len(keys) + 1)).astype(np.int64),
            vectors=_matrix(vectors.column("embedding").filter(pa.array(vector_at >= 0))),
            vector_of=vector_of,
        )

    def batches(self) -> Iterator[FrameBatch]:
        """All ranges, in order, those without frames left out."""
        for cut in self.cuts:
            batch = self.read(cut)
            if len(batch):
                yield batch

    def _of(self, cut: Cut) -> pc.Expression | None:
        parts = [cut.expression(), self.where.of_frames()]
        if self.video_ids is not None:
            parts.append(
                pc.field("video_id").isin(pa.array(cut.among(self.video_ids), pa.string()))
            )
        return every([part for part in parts if part is not None])


def join(
    ledger: Ledger,
    where: Where | None = None,
    *,
    boxes: bool = True,
    embeddings: bool = True,
    cut_frames: int = CUT_FRAMES,
) -> Joined:
    """What has landed by now, to be read in order. Raises UsageError for a video that is not."""
    where = where or Where()
    ids = video_ids(ledger, where.video)
    shards = _shards(ledger, ids, where)
    # In the reverse order of commits: what a table names, those opened after it have.
    named = ids is not None
    vectors = ledger.view("embeddings", superseded=named) if embeddings else None
    wanted = boxes or where.about_boxes
    detections = ledger.view("detections", superseded=named) if wanted else None
    frames = ledger.view("frames", superseded=named)
    return Joined(frames, detections, vectors, where, ids, cuts_of(shards, cut_frames))


def _shards(ledger: Ledger, ids: list[str] | None, where: Where) -> list[tuple[str, int, int, int]]:
    """Shards of the frames analyses that are current: what says how many frames are where."""
    wanted = pc.field("video_id").isin(pa.array(ids, pa.string())) if ids is not None else None
    kinds = [a.fingerprint for a in ledger.analyses() if a.table == "frames"]
    columns = ["video_id", "first_frame", "last_frame", "frames", "analysis"]
    rows = ledger.view("shards", wanted, superseded=ids is not None).table(columns)
    rows = rows.filter(pc.is_in(rows.column("analysis"), pa.array(kinds, pa.string())))
    start, stop = where.frames or (0, None)
    rows = rows.filter(pc.field("last_frame") >= start)
    rows = rows if stop is None else rows.filter(pc.field("first_frame") < stop)
    rows = rows.sort_by([("video_id", "ascending"), ("first_frame", "ascending")])
    return list(zip(*(rows.column(name).to_pylist() for name in columns[:4]), strict=True))


def _part(
    view: View | None,
    wanted: pc.Expression | None,
    ids: pa.Array,
    also: pc.Expression | None = None,
) -> tuple[pa.Table, np.ndarray]:
    """Rows of a table in order and their keys; none where it is not wanted."""
    if view is None:
        schema = pa.schema([("embedding", pa.list_(pa.float32()))])
        return schema.empty_table(), np.empty(0, np.int64)
    return _in_order(view.also(wanted).also(also).table(), ids)


def _in_order(rows: pa.Table, ids: pa.Array) -> tuple[pa.Table, np.ndarray]:
    """Rows of the videos `ids` by key, then detection_index; int64 (n,): the keys."""
    code = pc.index_in(rows.column("video_id"), ids)
    known = code.is_valid()
    if not pc.all(known).as_py():
        rows, code = rows.filter(known), code.filter(known)
    frame = rows.column("frame_index").to_numpy()
    keys = (code.to_numpy().astype(np.int64) << _BITS) | frame
    ranks = [keys]
    if "detection_index" in rows.schema.names:
        ranks = [rows.column("detection_index").to_numpy(), keys]
    order = np.lexsort(ranks)
    if not np.array_equal(order, np.arange(len(order))):
        rows, keys = rows.take(pa.array(order)), keys[order]
    return rows, keys


def _places(keys: np.ndarray, sought: np.ndarray) -> np.ndarray:
    """int64: where each sought key is among ascending keys; -1 where it is not."""
    if not len(keys):
        return np.full(len(sought), -1, np.int64)
    at = np.searchsorted(keys, sought)
    at[at == len(keys)] = 0
    return np.where(keys[at] == sought, at, -1)


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    """float32 (n, dimensions) of a column of lists. Raises UsageError where lengths differ."""
    lists = column.combine_chunks()
    lengths = pc.unique(pc.list_value_length(lists)).to_pylist()
    if len(lengths) > 1:
        raise UsageError(
            f"embeddings of {' and '.join(map(str, sorted(lengths)))} dimensions are current at "
            "once; run all videos with one embedder"
        )
    values = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    return values.reshape(len(lists), lengths[0] if lengths else 0)
