"""One row for each track: where it begins and ends, and what it is like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.results.where import Where, every, video_ids

if TYPE_CHECKING:
    from pipeline.ledger.reader import Ledger
    from pipeline.ledger.scan import View

SIDES = ("x1", "y1", "x2", "y2")
"""Of a box, in the order of columns."""
SUMMARY = pa.schema(
    [
        ("video_id", pa.string()),
        ("run_id", pa.string()),
        ("track_id", pa.int32()),
        ("class_id", pa.int32()),
        ("class_name", pa.string()),
        ("first_frame", pa.int64()),
        ("last_frame", pa.int64()),
        ("first_s", pa.float64()),
        ("last_s", pa.float64()),
        ("frames", pa.int64()),
        ("lost_frames", pa.int64()),
        ("mean_score", pa.float32()),
        ("best_frame", pa.int64()),
        ("best_s", pa.float64()),
        *((side, pa.float32()) for side in SIDES),
        ("embedding", pa.list_(pa.float32())),
    ]
)
_COLUMNS = [
    "run_id",
    "frame_index",
    "pts_s",
    "track_id",
    "class_id",
    "class_name",
    "score",
    "state",
]
_COLUMNS += SIDES


def summaries(ledger: Ledger, where: Where | None = None) -> pa.Table:
    """A row in `SUMMARY` for each track of the videos that are meant, by video and track.

    First and last frame are those with a detection; `frames` counts all that have one,
    `lost_frames` those between them that have none; the run wrote the row of the first. The class
    is the one that most of them have (of equally many the one of the smaller number). The best
    frame is the first one with the best score, the box that of its detection. The embedding is the
    mean of the embeddings of the frames with a detection, of unit length (L2): null where there
    are none.
    """
    where = where or Where()
    ids = video_ids(ledger, where.video)
    parts = [part for part in (where.of_frames(), where.of_boxes()) if part is not None]
    found = Summaries(ledger, every(parts), superseded=ids is not None)
    each = (found.of(video_id) for video_id in (found.videos() if ids is None else ids))
    return pa.concat_tables([SUMMARY.empty_table(), *each])


class Summaries:
    """The same a video at a time: in memory is what one of them has.

    Args:
        wanted: rows of `tracks` that count; all of them where None.
        embeddings: fingerprint of an analysis, the newest where None.
        superseded: of contents, too, that no file has any more.
    """

    def __init__(
        self,
        ledger: Ledger,
        wanted: pc.Expression | None = None,
        embeddings: str | None = None,
        *,
        superseded: bool = False,
    ) -> None:
        self._rows = ledger.view("tracks", wanted, superseded=superseded)
        self._vectors = ledger.view("embeddings", analysis=embeddings, superseded=True)

    def videos(self) -> list[str]:
        """Ids of the videos that have tracks, ascending."""
        found: set[str] = set()
        for batch in self._rows.batches(["video_id"]):
            found.update(batch.column("video_id").unique().to_pylist())
        return sorted(found)

    def of(self, video_id: str, *, embeddings: bool = True) -> pa.Table:
        """The rows of a video, by track. Without `embeddings` none are read, and all are null."""
        mine = pc.field("video_id") == video_id
        rows = self._rows.also(mine).table(_COLUMNS).sort_by("frame_index")
        return _of_video(video_id, rows, self._vectors.also(mine) if embeddings else None)


def _of_video(video_id: str, rows: pa.Table, vectors: View | None) -> pa.Table:
    tracked = rows.filter(pc.equal(rows.column("state"), "tracked"))
    spans = tracked.group_by("track_id").aggregate(
        [
            ("frame_index", "min"),
            ("frame_index", "max"),
            ("pts_s", "min"),
            ("pts_s", "max"),
            ("frame_index", "count"),
            ("score", "mean"),
        ]
    )
    spans = spans.sort_by("track_id")
    ids = spans.column("track_id").to_numpy()
    if not len(ids):
        return SUMMARY.empty_table()
    named = tracked.group_by(["track_id", "class_id", "class_name"])
    classes = named.aggregate([([], "count_all")])
    order = [("track_id", "ascending"), ("count_all", "descending"), ("class_id", "ascending")]
    classes = classes.sort_by(order)
    first = np.searchsorted(classes.column("track_id").to_numpy(), ids)
    classes = classes.take(pa.array(first))
    begin = _first_of_each(tracked, ("frame_index", "ascending"))
    best = _first_of_each(tracked, ("score", "descending"), ("frame_index", "ascending"))
    low, high = (spans.column(f"frame_index_{end}").to_numpy() for end in ("min", "max"))
    lost = rows.filter(pc.equal(rows.column("state"), "lost"))
    lost = lost.filter(pc.is_in(lost.column("track_id"), spans.column("track_id")))
    of_lost = np.searchsorted(ids, lost.column("track_id").to_numpy())
    frame = lost.column("frame_index").to_numpy()
    inside = (frame > low[of_lost]) & (frame < high[of_lost])
    columns = {
        "video_id": pa.repeat(pa.scalar(video_id), len(ids)),
        "run_id": begin.column("run_id"),
        "track_id": spans.column("track_id"),
        "class_id": classes.column("class_id"),
        "class_name": classes.column("class_name"),
        "first_frame": spans.column("frame_index_min"),
        "last_frame": spans.column("frame_index_max"),
        "first_s": spans.column("pts_s_min"),
        "last_s": spans.column("pts_s_max"),
        "frames": spans.column("frame_index_count"),
        "lost_frames": pa.array(np.bincount(of_lost[inside], minlength=len(ids))),
        "mean_score": spans.column("score_mean").cast(pa.float32()),
        "best_frame": best.column("frame_index"),
        "best_s": best.column("pts_s"),
        **{side: best.column(side) for side in SIDES},
        "embedding": _means(vectors, tracked, ids),
    }
    return pa.table([columns[name] for name in SUMMARY.names], schema=SUMMARY)


def _first_of_each(rows: pa.Table, *order: tuple[str, str]) -> pa.Table:
    """The row of each track that is the first in an order, by track."""
    rows = rows.sort_by([("track_id", "ascending"), *order])
    _, first = np.unique(rows.column("track_id").to_numpy(), return_index=True)
    return rows.take(pa.array(first))


def _means(vectors: View | None, tracked: pa.Table, ids: np.ndarray) -> pa.Array:
    """Of the embeddings of each track's frames, read a few at a time."""
    frames = tracked.column("frame_index").to_numpy()
    of_row = np.searchsorted(ids, tracked.column("track_id").to_numpy())
    order = np.argsort(frames, kind="stable")
    frames, of_row = frames[order], of_row[order]
    sums: np.ndarray | None = None
    for batch in vectors.batches(["frame_index", "embedding"]) if vectors is not None else ():
        if not batch.num_rows:
            continue
        matrix = batch.column("embedding").flatten().to_numpy().reshape(batch.num_rows, -1)
        at = batch.column("frame_index").to_numpy()
        if sums is None:
            sums = np.zeros((len(ids), matrix.shape[1]))
        low, high = np.searchsorted(frames, at, "left"), np.searchsorted(frames, at, "right")
        for vector, begin, end in zip(matrix, low.tolist(), high.tolist(), strict=True):
            # A frame has each track once.
            sums[of_row[begin:end]] += vector
    if sums is None:
        return pa.nulls(len(ids), pa.list_(pa.float32()))
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    units = (sums / np.maximum(lengths, 1e-12)).astype(np.float32)
    found = [unit if length > 0 else None for unit, length in zip(units, lengths, strict=True)]
    return pa.array(found, pa.list_(pa.float32()))
