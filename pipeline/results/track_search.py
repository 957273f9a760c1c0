"""`frameledger search --tracks`: the tracks of a corpus that are most like a text or a picture.

An embedding is of a whole frame, so what is compared is what the frames of a track show on average,
the object itself among other things.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import UsageError
from pipeline.ledger.analyses import newest_analyses
from pipeline.ledger.reader import Ledger
from pipeline.results.query import embeddings_analysis, query_vector
from pipeline.results.search import Hit, check_class, fitting, uris_of, videos_like
from pipeline.results.vectors import Vectors
from pipeline.tracks.summary import SIDES, Summaries


@dataclass(frozen=True)
class TrackHit(Hit):
    """A track that was found: from the first to the last frame with a detection.

    `score` is the cosine of its mean embedding and the query, `frame_index` the frame in which its
    detection has the best score.
    """

    track_id: int
    class_id: int
    class_name: str
    mean_score: float
    """Of its detections."""
    frames: int
    """With a detection."""
    lost_frames: int
    """Between them, without one."""
    x1: float
    """Of its box in that frame: pixels, as are the others."""
    y1: float
    x2: float
    y2: float

    @property
    def caption(self) -> str:
        return f"track {self.track_id}, {self.class_name}"

    @property
    def boxes(self) -> list[dict[str, Any]]:
        sides = {side: getattr(self, side) for side in SIDES}
        return [{**sides, "track_id": self.track_id, "score": self.mean_score}]


def search_tracks(
    output: str | os.PathLike[str] | Ledger,
    text: str | None = None,
    *,
    image: str | Path | None = None,
    vector: np.ndarray | None = None,
    k: int = 20,
    class_name: str | None = None,
    min_score: float | None = None,
    video: str | None = None,
    model: str | None = None,
    analysis: str | None = None,
) -> list[TrackHit]:
    """The k best tracks of an output, best first; of equal ones that of the lesser video_id, then
    track_id. In memory are the tracks of a few videos, and the k best so far: see `Summaries`.

    Args:
        class_name: only tracks of this class, which is the one of most of their detections.
        min_score: least mean score of their detections.
        text, image, vector, video, model, analysis: see `search`.

    Raises UsageError or ConfigError, each one line, as `search` does, and where the output has no
    tracks.
    """
    if k < 1:
        raise UsageError(f"--k {k}: at least 1 is expected")
    ledger = output if isinstance(output, Ledger) else Ledger(output)
    if "tracker" not in newest_analyses(ledger.analyses()):
        raise UsageError(
            f"{ledger.output}: no tracks to search; run with a tracker in the configuration"
        )
    of = embeddings_analysis(ledger, analysis)
    videos = videos_like(ledger, video) if video is not None else None
    if class_name is not None:
        check_class(ledger, "tracks", class_name)
    if vector is None:
        vector = query_vector(ledger, of, text, image, model)
    query = fitting(vector, Vectors(ledger, of))
    wanted = pc.scalar(True)
    if class_name is not None:
        wanted &= pc.field("class_name") == class_name
    if min_score is not None:
        wanted &= pc.field("mean_score") >= pa.scalar(min_score, pa.float32())
    summaries = Summaries(ledger, embeddings=of.fingerprint)

    def each() -> Iterator[tuple[float, str, int, dict[str, Any]]]:
        for rows in summaries.each(videos):
            yield from _best(rows.filter(wanted), query, k)

    found = heapq.nsmallest(k, each(), key=lambda one: one[:3])
    uris = uris_of(ledger, (video_id for _, video_id, _, _ in found), video)
    return [_hit(rank, -low, row, uris) for rank, (low, _, _, row) in enumerate(found, 1)]


def _best(
    rows: pa.Table, query: np.ndarray, k: int
) -> Iterator[tuple[float, str, int, dict[str, Any]]]:
    """(-cosine, video_id, track_id, row) of the k best of these tracks at most, best first."""
    rows = rows.filter(pc.is_valid(rows.column("embedding")))
    if not rows.num_rows:
        return
    vectors = rows.column("embedding").combine_chunks().flatten().to_numpy()
    # A product of matrices would differ in its last digits with the tracks that are read together.
    scores = np.einsum("ij,j->i", vectors.reshape(rows.num_rows, -1), query)
    best = np.argsort(-scores, kind="stable")[:k]  # Rows are by video and track.
    there = rows.drop_columns(["embedding"]).take(pa.array(best)).to_pylist()
    for score, row in zip(scores[best].tolist(), there, strict=True):
        yield -score, row["video_id"], row["track_id"], row


def _hit(rank: int, score: float, row: dict[str, Any], uris: dict[str, str]) -> TrackHit:
    same = ("video_id", "track_id", "class_id", "class_name", "mean_score", "frames", "lost_frames")
    return TrackHit(
        rank=rank,
        score=score,
        uri=uris.get(row["video_id"], ""),
        frame_index=row["best_frame"],
        pts_s=row["best_s"],
        start_frame=row["first_frame"],
        start_s=row["first_s"],
        end_frame=row["last_frame"],
        end_s=row["last_s"],
        **{name: row[name] for name in (*same, *SIDES)},
    )
