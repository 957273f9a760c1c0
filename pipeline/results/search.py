"""`frameledger search`: the moments of a corpus that are most like a text or a picture.

query      text or picture -> vector, by the model that wrote the embeddings    (query.py)
filters    videos by name, frames by what the detector found in them
ranking    exact cosine over all embeddings, streamed, merged into moments      (ranking.py)
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.durations import clock
from pipeline.errors import UsageError
from pipeline.ledger.books import latest_rows
from pipeline.ledger.keys import keys_of
from pipeline.ledger.reader import Ledger
from pipeline.results.moments import NEAR
from pipeline.results.query import embeddings_analysis, query_vector
from pipeline.results.ranking import Due, Wanted, best_moments
from pipeline.results.vector_index import open_index
from pipeline.results.vectors import Vectors, unit

if TYPE_CHECKING:
    from pipeline.results.moments import Moment


@dataclass(frozen=True)
class Hit:
    """A moment that was found, known by its best frame; times in seconds, ends inclusive."""

    rank: int
    """From 1."""
    score: float
    """Cosine of the best frame's embedding and the query."""
    uri: str
    video_id: str
    frame_index: int
    pts_s: float
    start_frame: int
    start_s: float
    end_frame: int
    end_s: float

    @property
    def caption(self) -> str:
        """What it is, beside the name of its video."""
        return f"frame {self.frame_index:,} at {clock(self.pts_s)}"

    @property
    def boxes(self) -> list[dict[str, Any]]:
        """Rows that are drawn on its picture; see `draw_detections`."""
        return []

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def search(
    output: str | os.PathLike[str] | Ledger,
    text: str | None = None,
    *,
    image: str | Path | None = None,
    vector: np.ndarray | None = None,
    k: int = 20,
    class_name: str | None = None,
    min_score: float | None = None,
    video: str | None = None,
    every_s: float = 0.0,
    near: float | None = NEAR,
    model: str | None = None,
    analysis: str | None = None,
    approximate: bool = False,
) -> list[Hit]:
    """The k best moments of an output, best first.

    Args:
        text, image: what to search for: a text, a picture's file, or both (what is like both).
        vector: the same as an embedding, float32 (dimensions,); no model is loaded then.
        class_name: only frames in which the detector found this class.
        min_score: its least score; without `class_name`, of a box of any class.
        video: a glob: only videos with such a uri or file name.
        every_s: at most one moment of a video in as many seconds.
        near: cosine from which neighbouring frames are one moment; None: each frame by itself.
        model: where the embedder's model is, if not where the run that wrote the rows found it.
        analysis: fingerprint of other embeddings than the newest.
        approximate: look where the vector index leads to (`vector_index`), which may miss some.

    Raises UsageError or ConfigError, each one line, where the output has no embeddings, their
    model is not there or is another, or a filter names what is not there.
    """
    if approximate and (class_name is not None or min_score is not None or video is not None):
        raise UsageError(
            "--approximate: an index knows no videos and classes; leave it out with --video, "
            "--class and --min-score"
        )
    if k < 1:
        raise UsageError(f"--k {k}: at least 1 is expected")
    ledger = output if isinstance(output, Ledger) else Ledger(output)
    of = embeddings_analysis(ledger, analysis)
    # Before a model is loaded for nothing.
    index = open_index(ledger, of) if approximate else None
    videos = videos_like(ledger, video) if video is not None else None
    frames = None
    if class_name is not None or min_score is not None:
        frames = frames_with(ledger, class_name, min_score)
    vectors = Vectors(ledger, of, videos)
    if vector is None:
        vector = query_vector(ledger, of, text, image, model)
    wanted = Wanted(
        query=fitting(vector, vectors),
        k=k,
        near=near,
        every_s=every_s,
        due=_due(frozenset(ledger.superseded()), videos, frames),
        last_frame=lru_cache(lambda video_id: ledger.index(video_id).frame_count - 1),
    )
    find = index.search if index is not None else best_moments
    return _hits(ledger, find(vectors, wanted), videos, video)


def fitting(vector: np.ndarray, vectors: Vectors) -> np.ndarray:
    """A query as float32 (dimensions,) of unit length. Raises UsageError where the embeddings have
    other dimensions."""
    if vectors.dimensions and vector.shape != (vectors.dimensions,):
        raise UsageError(
            f"{vectors.output}: its embeddings have {vectors.dimensions} dimensions, the query has "
            f"{vector.shape}"
        )
    query: np.ndarray = unit(vector.astype(np.float32)[None])[0]
    return query


def frames_with(
    ledger: Ledger, class_name: str | None = None, min_score: float | None = None
) -> dict[str, np.ndarray]:
    """Frames in which the newest detector found a class with at least a score.

    Returns int64 frame indices by video_id, ascending, 8 bytes each. Raises UsageError for a class
    that it has never found.
    """
    wanted = None
    if class_name is not None:
        wanted = pc.field("class_name") == class_name
    if min_score is not None:
        enough = pc.field("score") >= np.float32(min_score).item()
        wanted = enough if wanted is None else wanted & enough
    parts: dict[str, list[np.ndarray]] = {}
    for batch in ledger.batches("detections", ["video_id", "frame_index"], wanted):
        ids = batch.column("video_id").dictionary_encode()
        codes, frames = ids.indices.to_numpy(), batch.column("frame_index").to_numpy()
        for code, video_id in enumerate(ids.dictionary.to_pylist()):
            parts.setdefault(video_id, []).append(np.unique(frames[codes == code]))
    if not parts:
        check_class(ledger, "detections", class_name)
    return {video_id: np.unique(np.concatenate(some)) for video_id, some in parts.items()}


def check_class(ledger: Ledger, table: str, class_name: str | None) -> None:
    """Raise UsageError where `detections`, or `tracks`, have no rows, or none of the class."""
    known: set[str] = set()
    for batch in ledger.batches(table, ["class_name"]):
        known.update(batch.column("class_name").unique().to_pylist())
    if not known:
        maker = "tracker" if table == "tracks" else "detector"
        raise UsageError(f"{ledger.output}: no {table} to filter by; run with a {maker}")
    if class_name is not None and class_name not in known:
        some = ", ".join(sorted(known)[:10]) + (", ..." if len(known) > 10 else "")
        raise UsageError(f"--class {class_name}: was never found here; there are {some}")


def videos_like(ledger: Ledger, pattern: str) -> frozenset[str]:
    """Ids of the current videos whose uri or file name matches. Raises UsageError for none."""
    rows = ledger.videos().select(["uri", "video_id"]).to_pylist()
    found = {row["video_id"] for row in rows if _is_like(row["uri"], pattern)} - {None}
    if not found:
        such = f", such as {rows[0]['uri']}" if rows else ""
        raise UsageError(f"--video {pattern}: matches none of {len(rows):,} videos{such}")
    return frozenset(found)


def _is_like(uri: str, pattern: str) -> bool:
    return fnmatchcase(uri, pattern) or fnmatchcase(uri, "*/" + pattern)


def _due(
    old: frozenset[str], videos: frozenset[str] | None, frames: dict[str, np.ndarray] | None
) -> Due:
    def due(video_id: str, asked: np.ndarray) -> np.ndarray | None:
        if video_id in old or (videos is not None and video_id not in videos):
            return None
        if frames is None:
            return np.ones(len(asked), bool)
        there = frames.get(video_id)
        if there is None:
            return None
        places = np.minimum(np.searchsorted(there, asked), len(there) - 1)
        found: np.ndarray = there[places] == asked
        return found

    return due


def _hits(
    ledger: Ledger, moments: list[Moment], videos: frozenset[str] | None, pattern: str | None
) -> list[Hit]:
    uris = uris_of(ledger, (moment.video_id for moment in moments), pattern)
    return [
        Hit(
            rank=rank,
            score=moment.score,
            uri=uris.get(moment.video_id, ""),
            video_id=moment.video_id,
            frame_index=moment.frame,
            pts_s=moment.time_s,
            start_frame=moment.start_frame,
            start_s=moment.start_s,
            end_frame=moment.end_frame,
            end_s=moment.end_s,
        )
        for rank, moment in enumerate(moments, 1)
    ]


def uris_of(ledger: Ledger, ids: Iterable[str], pattern: str | None = None) -> dict[str, str]:
    """Of each content the name of a file that has it now, the first that matches the glob."""
    mine = pa.array(sorted(set(ids)), pa.string())
    named = ledger.table("videos", ["uri"], pc.field("video_id").isin(mine))
    uris = named.column("uri").unique()
    rows = ledger.table("videos", ["uri", "video_id", "recorded_at"], pc.field("uri").isin(uris))
    newest = latest_rows(keys_of(rows.column("uri")), rows.column("recorded_at"))
    found = rows.take(pa.array(newest)).sort_by([("uri", "descending")]).to_pylist()
    return {
        row["video_id"]: row["uri"]
        for row in found
        if row["video_id"] is not None and (pattern is None or _is_like(row["uri"], pattern))
    }
