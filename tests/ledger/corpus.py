"""Small made-up corpora: indices, tasks and results whose values follow from their frame index."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pyarrow as pa

from pipeline.ledger.commit import LedgerWriter
from pipeline.records import (
    Analysis,
    ClipResult,
    ShardEnd,
    ShardTask,
    Source,
    VideoIndex,
    VideoOutcome,
)
from pipeline.sources.plan import Grid, plan_video

GRID = Grid(sampling={"stride": 2}, length=4, step=4, shard_frames=16)
FRAMES = Analysis("frames", "frames", {**GRID.identity(), "semantics": 1})
DETECTOR = Analysis("detector", "detections", {"model": "a", "frames": FRAMES.fingerprint})
EMBEDDER = Analysis("embedder", "embeddings", {"model": "b", "frames": FRAMES.fingerprint})
ALL = (FRAMES, DETECTOR, EMBEDDER)
ANALYSES = {analysis.fingerprint: analysis for analysis in ALL}
WIDTH, HEIGHT, DIM = 64, 48, 8

Rows = Callable[[np.ndarray, np.ndarray], dict[str, pa.Table]]
"""Rows by analysis of a clip's frames: of their positions in the sample and their indexes."""


def video_id(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def make_index(name: str, frames: int = 50, keyframe_every: int = 8) -> VideoIndex:
    return VideoIndex(
        video_id=video_id(name),
        pts=np.arange(frames, dtype=np.int64) * 1001 + 7,
        keyframes=np.arange(0, frames, keyframe_every, dtype=np.int64),
        time_base=Fraction(1, 30000),
        stream_index=0,
        container="mov,mp4",
        codec="h264",
        pixel_format="yuv420p",
        width=WIDTH,
        height=HEIGHT,
        rotation=0,
        duration_s=frames * 1001 / 30000,
        exact_pts=True,
    )


def source_of(name: str, stamp: str = "1:1") -> Source:
    return Source(f"/videos/{name}.mp4", stamp, 1000)


def make_tasks(
    name: str, frames: int = 50, analyses: tuple[Analysis, ...] = ALL, grid: Grid = GRID
) -> list[ShardTask]:
    from dataclasses import replace

    due = tuple(analysis.fingerprint for analysis in analyses)
    tasks = plan_video(source_of(name), make_index(name, frames), grid)
    return [replace(task, analyses=due) for task in tasks]


def boxes_of(frame: int) -> int:
    """How many boxes the made-up detector sees in a frame: 0, 1 or 2."""
    return (frame // 2) % 3


def make_results(
    task: ShardTask, attempt: int = 1, lost: frozenset[int] = frozenset()
) -> tuple[list[ClipResult], ShardEnd]:
    """What decoder and analyzers would send; the frames `lost` could not be decoded."""

    def rows(positions: np.ndarray, frames: np.ndarray) -> dict[str, pa.Table]:
        found = {}
        for fingerprint in task.analyses:
            table = ANALYSES[fingerprint].table if fingerprint in ANALYSES else "embeddings"
            if table == "detections":
                found[fingerprint] = _boxes(positions, frames)
            elif table == "embeddings":
                found[fingerprint] = _vectors(positions, frames)
        return found

    return results_of(task, rows, attempt, lost)


def results_of(
    task: ShardTask, rows: Rows, attempt: int = 1, lost: frozenset[int] = frozenset()
) -> tuple[list[ClipResult], ShardEnd]:
    """A shard's results, clip by clip, with the rows that are made up for its frames."""
    results = []
    for clip in task.shard.clips:
        positions = np.arange(clip.own_start, clip.own_stop, dtype=np.int64)
        frames = task.frames_of(clip.own_start, clip.own_stop)
        here = ~np.isin(frames, list(lost))
        positions, frames = positions[here], frames[here]
        size = (task.index.width, task.index.height)
        sizes = np.tile(np.array([size], np.int32), (len(positions), 1))
        made = rows(positions, frames)
        results.append(ClipResult(task.key, attempt, clip, positions, sizes, made, 0.01))
    owned = task.frames_of(task.shard.own_start, task.shard.own_stop)
    missing = tuple((int(f), int(f) + 1) for f in owned if int(f) in lost)
    reason = "made up" if missing else ""
    return results, ShardEnd(task.key, attempt, len(task.shard.clips), missing, reason)


def _boxes(positions: np.ndarray, frames: np.ndarray) -> pa.Table:
    counts = np.array([boxes_of(int(f)) for f in frames], np.int64)
    position = np.repeat(positions, counts)
    frame = np.repeat(frames, counts).astype(np.float32)
    n = len(position)
    return pa.table(
        {
            "position": position,
            "x1": pa.array(frame % 30, pa.float32()),
            "y1": pa.array(np.zeros(n), pa.float32()),
            "x2": pa.array(frame % 30 + 5, pa.float32()),
            "y2": pa.array(np.full(n, 10), pa.float32()),
            "score": pa.array(np.full(n, 0.5), pa.float32()),
            "class_id": pa.array(np.full(n, 3), pa.int32()),
            "class_name": pa.array(["thing"] * n, pa.string()),
            "mask": pa.array([{"size": [48, 64], "counts": "abc"}] * n if n % 2 else [None] * n),
            "keypoints": pa.array([None] * n, pa.list_(pa.float32())),
        }
    ).cast(_schema(n))


def _schema(n: int) -> pa.Schema:
    from pipeline.ledger.schema import DATA_COLUMNS

    return DATA_COLUMNS["detections"].insert(0, pa.field("position", pa.int64()))


def _vectors(positions: np.ndarray, frames: np.ndarray) -> pa.Table:
    values = np.repeat(frames.astype(np.float32), DIM)
    offsets = np.arange(len(frames) + 1, dtype=np.int32) * DIM
    return pa.table(
        {
            "position": positions,
            "embedding": pa.ListArray.from_arrays(pa.array(offsets), pa.array(values)),
        }
    )


def feed(writer: LedgerWriter, task: ShardTask, attempt: int = 1, lost=frozenset()):  # type: ignore[no-untyped-def]
    """Begin a task and send all of its results; returns what the last of them was answered."""
    writer.begin(task, attempt)
    results, end = make_results(task, attempt, lost)
    for result in results:
        assert writer.add_result(result) is None
    return writer.add_end(end)


def write_video(  # type: ignore[no-untyped-def]
    writer: LedgerWriter, name: str, frames: int = 50, lost=frozenset(), stamp="1:1", content=None
) -> list[ShardTask]:
    """A whole video: index, all shards, outcome. `content` names other bytes than `name`."""
    tasks = make_tasks(content or name, frames)
    index = make_index(content or name, frames)
    writer.add_index(index)
    for task in tasks:
        feed(writer, task, lost=lost)
    status = "partial" if lost else "ok"
    writer.add_video(VideoOutcome(source_of(name, stamp), index, status))
    return tasks


def open_writer(output: object, run_id: str = "run-1", **options) -> LedgerWriter:  # type: ignore[no-untyped-def]
    return LedgerWriter(str(output), run_id, ANALYSES, **options)
