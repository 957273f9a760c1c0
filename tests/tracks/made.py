"""Outputs whose detections follow from a made-up scene: no pictures, no models, real tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial

import numpy as np
import pyarrow as pa

from pipeline.config import Config
from pipeline.config_file import parse_config
from pipeline.engine.budget import Budget
from pipeline.engine.job import Job, grid_of
from pipeline.engine.stats import RunStats
from pipeline.ledger.commit import LedgerWriter
from pipeline.ledger.reader import Ledger
from pipeline.ledger.schema import DATA_COLUMNS
from pipeline.records import Analysis, ShardTask, Source, VideoIndex, VideoOutcome
from pipeline.sources.plan import plan_video
from pipeline.tracks.analysis import tracks_of
from pipeline.tracks.light import Boxes
from pipeline.tracks.spreads import follow_here
from pipeline.tracks.track_pass import track_videos
from tests.ledger import corpus

WIDTH, HEIGHT = 640, 480

Scene = Callable[[int, float], Boxes]
"""The boxes of a frame, by its index and its time in seconds."""


def boxes(*rows: tuple[float, float, float, float, float, int]) -> Boxes:
    """Of x1, y1, x2, y2, score and class_id; float32 as the tables have it."""
    values = np.array(rows, np.float32).astype(np.float64).reshape(-1, 6)
    return Boxes(values[:, :4], values[:, 4], values[:, 5].astype(np.int64))


def crowd(seed: int, objects: int = 6, miss: float = 0.2) -> Scene:
    """Objects of three classes that go back and forth, are missed now and then, or seen twice."""
    rng = np.random.default_rng(seed)
    home = rng.uniform(0.1, 0.9, (objects, 2)) * (WIDTH, HEIGHT)
    reach = rng.uniform(20, 300, (objects, 2))
    rate, phase = rng.uniform(0.3, 2.5, (objects, 2)), rng.uniform(0, 6.3, (objects, 2))
    half = rng.uniform(12, 60, (objects, 2))

    def scene(frame: int, time_s: float) -> Boxes:
        here = np.random.default_rng([seed, frame])
        middle = home + reach * np.sin(rate * time_s + phase) + here.normal(0, 1, (objects, 2))
        size = np.array([WIDTH, HEIGHT])
        found = []
        for number in range(objects):
            low = np.clip(middle[number] - half[number], 0, size)
            high = np.clip(middle[number] + half[number], 0, size)
            if here.random() < miss or (high <= low).any():
                continue
            for _ in range(1 + (here.random() < 0.1)):
                found.append((*low, *high, here.uniform(0.5, 1), number % 3))
        return boxes(*sorted(found, key=lambda row: -row[4]))

    return scene


def make_index(frames: int, steps: tuple[int, ...] = (3000,), name: str = "a") -> VideoIndex:
    """An index whose frames are `steps` ticks of 1/90000 s apart, over and over."""
    every = np.resize(np.array(steps, np.int64), max(frames - 1, 0))
    pts = np.concatenate([[0], np.cumsum(every)]).astype(np.int64)[:frames]
    return replace(
        corpus.make_index(name, frames, keyframe_every=10),
        pts=pts,
        time_base=Fraction(1, 90000),
        width=WIDTH,
        height=HEIGHT,
        duration_s=float(pts[-1] / 90000) if frames else 0.0,
    )


def make_config(length: int = 8, stride: int = 1, **tracker: object) -> Config:
    data = {
        "sampling": {"stride": stride},
        "clip": {"length": length},
        "detector": {"backend": "transformers", "model": "made-up"},
        "tracker": {"backend": "bytetrack", **tracker},
    }
    return parse_config(data, where="test")


def make_job(output: object, config: Config, run_id: str = "run") -> Job:
    """The job of a configuration, with a detector that is made up."""
    frames = Analysis("frames", "frames", grid_of(config).identity())
    detector = Analysis("detector", "detections", {"model": "m", "frames": frames.fingerprint})
    analyses = (frames, detector)
    return Job(run_id, config, str(output), analyses, tracks_of(config, analyses))


def source_of(index: VideoIndex) -> Source:
    return Source(f"/videos/{index.video_id[:6]}.mp4", "1:1", 1000)


def detect(
    job: Job,
    index: VideoIndex,
    scene: Scene,
    lost: frozenset[int] = frozenset(),
    backwards: bool = False,
    source: Source | None = None,
) -> int:
    """Land frames and detections of a video; returns how many shards it has."""
    source = source or source_of(index)
    tasks = plan_video(source, index, job.grid)
    with LedgerWriter(job.output, job.run_id, job.by_fingerprint()) as writer:
        writer.add_index(index)
        for planned in reversed(tasks) if backwards else tasks:
            task = replace(planned, analyses=tuple(job.by_fingerprint()))
            writer.begin(task, 1)
            made_up = partial(_rows, job, task, scene)
            results, end = corpus.results_of(task, made_up, lost=lost)
            for result in reversed(results) if backwards else results:
                writer.add_result(result)
            assert writer.add_end(end) is not None
        status = "partial" if lost else "ok"
        writer.add_video(VideoOutcome(source, index, status))  # type: ignore[arg-type]
    return len(tasks)


def track(job: Job, *indexes: VideoIndex) -> RunStats:
    """Make the tracks of videos whose detections have landed."""
    stats = RunStats()
    due = {bytes.fromhex(index.video_id) for index in indexes}
    track_videos(job, due, set(), Budget(), stats, follow_here(job, "cpu"))
    return stats


def rows(job: Job) -> list[dict[str, object]]:
    """All rows of `tracks` in order, but for which run and analysis made them."""
    assert job.tracks is not None
    found = Ledger(job.output).select("tracks", analysis=job.tracks.fingerprint)
    return found.drop_columns(["analysis", "run_id"]).to_pylist()


def _rows(
    job: Job, task: ShardTask, scene: Scene, positions: np.ndarray, frames: np.ndarray
) -> dict[str, pa.Table]:
    seconds = task.index.pts_seconds(task.index.pts)
    found = [scene(int(frame), float(seconds[frame])) for frame in frames]
    counts = [len(one.scores) for one in found]
    sides = np.concatenate([np.empty((0, 4)), *(one.xyxy for one in found)])
    ids = np.concatenate([np.empty(0, np.int64), *(one.class_ids for one in found)])
    count = len(ids)
    schema = DATA_COLUMNS["detections"].insert(0, pa.field("position", pa.int64()))
    columns = {
        "position": np.repeat(positions, counts),
        **{side: sides[:, at] for at, side in enumerate(("x1", "y1", "x2", "y2"))},
        "score": np.concatenate([np.empty(0), *(one.scores for one in found)]),
        "class_id": ids,
        "class_name": [f"class {number}" for number in ids],
        "mask": [None] * count,
        "keypoints": [None] * count,
    }
    table = pa.table({k: pa.array(v, schema.field(k).type) for k, v in columns.items()})
    return {job.analyses[1].fingerprint: table}
