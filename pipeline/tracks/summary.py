"""One row for each track: where it begins and ends, and what it is like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
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
_COLUMNS = ["video_id", "run_id", "frame_index", "pts_s", "track_id", "class_id", "class_name"]
_COLUMNS += ["score", "state", *SIDES]
_ROWS = 2**15
"""Of `tracks` that are held at once: videos are read together up to here, as neighbours lie in the
same row groups. A video that has more is read alone."""
_FRAMES = 2**40
"""More than a video has."""


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
    return pa.concat_tables([SUMMARY.empty_table(), *found.each(ids)])


class Summaries:
    """The same a few videos at a time: in memory are their tracks, or those of one long video.

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

    def each(
        self, videos: Collection[str] | None = None, *, embeddings: bool = True
    ) -> Iterator[pa.Table]:
        """The rows of these videos, or of all, by video and track, some videos after the others.

        Without `embeddings` none are read, and all are null.
        """
        rows = self._rows if videos is None else self._rows.also(_among(sorted(videos)))
        counts: Counter[str] = Counter()
        for batch in rows.batches(["video_id"]):
            for found in batch.column("video_id").value_counts().to_pylist():
                counts[found["values"]] += found["counts"]
        due: list[str] = []
        held = 0
        for video_id in sorted(counts):
            if due and held + counts[video_id] > _ROWS:
                yield self._of(due, embeddings)
                due, held = [], 0
            due.append(video_id)
            held += counts[video_id]
        if due:
            yield self._of(due, embeddings)

    def of(self, video_id: str, *, embeddings: bool = True) -> pa.Table:
        """The rows of one video."""
        return self._of([video_id], embeddings)

    def _of(self, videos: list[str], embeddings: bool) -> pa.Table:
        """Of these videos, ascending."""
        ids, mine = pa.array(videos, pa.string()), _among(videos)
        rows = self._rows.also(mine).table(_COLUMNS).sort_by("frame_index")
        track = _places(rows, ids) * 2**32 + rows.column("track_id").to_numpy()
        rows = rows.append_column("track", pa.array(track))
        return _summed_up(rows, ids, self._vectors.also(mine) if embeddings else None)


def _among(videos: list[str]) -> pc.Expression:
    """Rows of these videos, ascending; the range says which files and row groups to leave out."""
    video, ids = pc.field("video_id"), pa.array(videos, pa.string())
    if not videos:
        return pc.scalar(False)
    return (video >= videos[0]) & (video <= videos[-1]) & video.isin(ids)


def _summed_up(rows: pa.Table, videos: pa.Array, vectors: View | None) -> pa.Table:
    """A row for each value of `track`, which tells the tracks of several videos apart."""
    tracked = rows.filter(pc.equal(rows.column("state"), "tracked"))
    spans = tracked.group_by("track").aggregate(
        [
            ("frame_index", "min"),
            ("frame_index", "max"),
            ("pts_s", "min"),
            ("pts_s", "max"),
            ("frame_index", "count"),
            ("score", "mean"),
        ]
    )
    spans = spans.sort_by("track")
    ids = spans.column("track").to_numpy()
    if not len(ids):
        return SUMMARY.empty_table()
    named = tracked.group_by(["track", "class_id", "class_name"])
    classes = named.aggregate([([], "count_all")])
    order = [("track", "ascending"), ("count_all", "descending"), ("class_id", "ascending")]
    classes = classes.sort_by(order)
    first = np.searchsorted(classes.column("track").to_numpy(), ids)
    classes = classes.take(pa.array(first))
    begin = _first_of_each(tracked, ("frame_index", "ascending"))
    best = _first_of_each(tracked, ("score", "descending"), ("frame_index", "ascending"))
    low, high = (spans.column(f"frame_index_{end}").to_numpy() for end in ("min", "max"))
    lost = rows.filter(pc.equal(rows.column("state"), "lost"))
    lost = lost.filter(pc.is_in(lost.column("track"), spans.column("track")))
    of_lost = np.searchsorted(ids, lost.column("track").to_numpy())
    frame = lost.column("frame_index").to_numpy()
    inside = (frame > low[of_lost]) & (frame < high[of_lost])
    columns = {
        **{name: begin.column(name) for name in ("video_id", "run_id", "track_id")},
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
        "embedding": _means(tracked, ids, videos, vectors),
    }
    return pa.table([columns[name] for name in SUMMARY.names], schema=SUMMARY)


def _first_of_each(rows: pa.Table, *order: tuple[str, str]) -> pa.Table:
    """The row of each track that is the first in an order, by track."""
    rows = rows.sort_by([("track", "ascending"), *order])
    _, first = np.unique(rows.column("track").to_numpy(), return_index=True)
    return rows.take(pa.array(first))


def _places(rows: pa.Table | pa.RecordBatch, videos: pa.Array) -> np.ndarray:
    """int64: where in `videos` the video of each row is."""
    return pc.index_in(rows.column("video_id"), videos).cast(pa.int64()).to_numpy()


def _means(tracked: pa.Table, ids: np.ndarray, videos: pa.Array, vectors: View | None) -> pa.Array:
    """Of the embeddings of each track's frames, read a few at a time."""
    frames = _places(tracked, videos) * _FRAMES + tracked.column("frame_index").to_numpy()
    of_row = np.searchsorted(ids, tracked.column("track").to_numpy())
    order = np.argsort(frames, kind="stable")
    frames, of_row = frames[order], of_row[order]
    sums: np.ndarray | None = None
    columns = ["video_id", "frame_index", "embedding"]
    for batch in vectors.batches(columns) if vectors is not None else ():
        if not batch.num_rows:
            continue
        matrix = batch.column("embedding").flatten().to_numpy().reshape(batch.num_rows, -1)
        at = _places(batch, videos) * _FRAMES + batch.column("frame_index").to_numpy()
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
