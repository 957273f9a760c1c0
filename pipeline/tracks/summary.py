"""One row for each track: where it begins and ends, and what it is like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.results.select import select
from pipeline.results.where import Where

if TYPE_CHECKING:
    from pipeline.ledger.reader import Ledger

SUMMARY = pa.schema(
    [
        ("video_id", pa.string()),
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
        ("embedding", pa.list_(pa.float32())),
    ]
)
_COLUMNS = [
    *("video_id", "frame_index", "pts_s", "track_id", "class_id", "class_name", "score", "state"),
]


def summaries(ledger: Ledger, where: Where | None = None) -> pa.Table:
    """A row in `SUMMARY` for each track of the videos that are meant, by video and track.

    First and last frame are those with a detection; `frames` counts all that have one,
    `lost_frames` those between them that have none. The class is the one that most of them have
    (of equally many the one of the smaller number). The embedding is the mean of the embeddings of
    the frames with a detection, of unit length (L2): null where there are none.
    """
    rows = select(ledger, "tracks", where, _COLUMNS)
    found = [SUMMARY.empty_table()]
    for video_id in rows.column("video_id").unique().to_pylist():
        mine = rows.filter(pc.equal(rows.column("video_id"), video_id))
        found.append(_of_video(ledger, video_id, mine))
    return pa.concat_tables(found)


def _of_video(ledger: Ledger, video_id: str, rows: pa.Table) -> pa.Table:
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
    low, high = (spans.column(f"frame_index_{end}").to_numpy() for end in ("min", "max"))
    lost = rows.filter(pc.equal(rows.column("state"), "lost"))
    lost = lost.filter(pc.is_in(lost.column("track_id"), spans.column("track_id")))
    of_lost = np.searchsorted(ids, lost.column("track_id").to_numpy())
    frame = lost.column("frame_index").to_numpy()
    inside = (frame > low[of_lost]) & (frame < high[of_lost])
    columns = {
        "video_id": pa.repeat(pa.scalar(video_id), len(ids)),
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
        "embedding": _means(ledger, video_id, tracked, ids),
    }
    return pa.table([columns[name] for name in SUMMARY.names], schema=SUMMARY)


def _means(ledger: Ledger, video_id: str, tracked: pa.Table, ids: np.ndarray) -> pa.Array:
    """Of the embeddings of each track's frames, read a few at a time."""
    frames = tracked.column("frame_index").to_numpy()
    of_row = np.searchsorted(ids, tracked.column("track_id").to_numpy())
    order = np.argsort(frames, kind="stable")
    frames, of_row = frames[order], of_row[order]
    sums: np.ndarray | None = None
    wanted = pc.field("video_id") == video_id
    columns = ["frame_index", "embedding"]
    for batch in ledger.view("embeddings", wanted, superseded=True).batches(columns):
        vectors = np.stack(batch.column("embedding").to_numpy(zero_copy_only=False))
        at = batch.column("frame_index").to_numpy()
        if sums is None:
            sums = np.zeros((len(ids), vectors.shape[1]))
        low, high = np.searchsorted(frames, at, "left"), np.searchsorted(frames, at, "right")
        for vector, begin, end in zip(vectors, low.tolist(), high.tolist(), strict=True):
            # A frame has each track once.
            sums[of_row[begin:end]] += vector
    if sums is None:
        return pa.nulls(len(ids), pa.list_(pa.float32()))
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    units = (sums / np.maximum(lengths, 1e-12)).astype(np.float32)
    found = [unit if length > 0 else None for unit, length in zip(units, lengths, strict=True)]
    return pa.array(found, pa.list_(pa.float32()))
