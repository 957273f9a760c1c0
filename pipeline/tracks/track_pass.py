"""The pass that makes a video's tracks, shard by shard, of detections that have landed.

    shard         0          1          2
    detections    landed     landed     landed
    tracks        rows ──┐   rows ──┐   rows         each shard's rows land together with the state
                       state      state              of the tracker behind it

A run that is cut goes on behind the last shard that landed, with the state found there, and its
rows are those of a run that was not. What is done by two runs at once lands once: it is the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Set
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.config_trackers import ByteTrackConfig, OCSortConfig
from pipeline.engine.job import Job
from pipeline.ledger.remap import with_ids
from pipeline.records import NO_FILE, Analysis, ShardTask, VideoIndex
from pipeline.sources.plan import plan_video
from pipeline.tracks.analysis import bases_of
from pipeline.tracks.landed import LandedRows, ShardRows
from pipeline.tracks.light import Boxes, LightTracker, TrackBox
from pipeline.tracks.motion import Clock, clock_of
from pipeline.tracks.state import pack, unpack

if TYPE_CHECKING:
    from pipeline.engine.budget import Budget
    from pipeline.engine.stats import RunStats
    from pipeline.ledger.books import Books
    from pipeline.ledger.commit import LedgerWriter


def track_videos(
    job: Job,
    worked: Set[bytes],
    backlog: Set[bytes],
    budget: Budget,
    stats: RunStats,
) -> None:
    """Make the tracks that are due, of videos all of whose detections are there.

    Args:
        worked: ids of videos that the run itself has ended: theirs are made whatever the budget,
            as what is under way at its end is finished.
        backlog: those of videos that have nothing else due.

    Raises RunAborted where the store cannot be written.
    """
    from pipeline.ledger.books import Books
    from pipeline.ledger.commit import LedgerWriter

    # In the order of the table: files of a commit then hold ids that no other file holds.
    due = [*sorted(worked), *sorted(backlog - worked)]
    if job.tracks is None or not due:
        return
    started = time.perf_counter()
    fingerprint = job.tracks.fingerprint
    commit = job.config.commit
    stats.say(f"tracks of up to {len(due):,} videos")
    with LedgerWriter(
        job.output,
        job.run_id,
        {fingerprint: job.tracks},
        commit_bytes=commit.bytes,
        commit_seconds=commit.seconds,
    ) as writer:
        tracks = _TrackPass(job, job.tracks, Books(job.output), writer)
        for video_id in due:
            if video_id not in worked and budget.is_up:
                stats.left.videos += 1
                continue
            stats.tracked += tracks.make(video_id.hex())
    if stats.tracked:
        stats.worked.add(fingerprint)
        stats.rows["tracks"] = stats.rows.get("tracks", 0) + tracks.rows
    stats.committed(writer.stats.commits, writer.stats.commit_s)
    stats.track_s += time.perf_counter() - started
    stats.say("")


class _TrackPass:
    """The videos of a run, one after another."""

    def __init__(self, job: Job, tracks: Analysis, books: Books, writer: LedgerWriter) -> None:
        assert job.config.tracker is not None
        self._config: ByteTrackConfig | OCSortConfig = job.config.tracker
        self._grid = job.grid
        self._tracks = tracks
        self._run_id = job.run_id
        self._books = books
        self._writer = writer
        self._needed = bases_of(tracks)
        self._landed = LandedRows(job.output, *self._needed, tracks.fingerprint)
        self.rows = 0

    def make(self, video_id: str) -> bool:
        """What a video lacks of its tracks; False where that is nothing, or where it lacks
        detections: they come with a run that tries what has failed again."""
        index = self._books.index(video_id)
        if index is None or not all(self._books.video_done(video_id, p) for p in self._needed):
            return False
        tasks = plan_video(NO_FILE, index, self._grid)
        there = self._books.landed(video_id, self._tracks.fingerprint)
        first = next((n for n in range(len(tasks)) if n not in there), len(tasks))
        saved = self._landed.state(video_id, first - 1) if first else None
        # Without its state all is made again; what has landed does not land twice.
        left = tasks[first:] if saved is not None else tasks
        for task, rows, state in self._shards(left, index, saved) if first < len(tasks) else ():
            self.rows += rows.num_rows
            self._writer.add_derived(task, self._tracks.fingerprint, rows, state)
            self._writer.flush_if_due()
        return first < len(tasks)

    def _shards(
        self, tasks: list[ShardTask], index: VideoIndex, saved: str | None
    ) -> Iterator[tuple[ShardTask, pa.Table, str]]:
        """Each shard's rows, and the state behind it."""
        clock = clock_of(index)
        state = unpack(saved) if saved is not None else {"tracker": None, "names": []}
        tracker = LightTracker(self._config, clock.frames_per_s, state["tracker"])
        names: dict[int, str] = dict(state["names"])
        for task in tasks:
            rows = track_shard(tracker, clock, names, self._landed.shard(task))
            behind = pack({"tracker": tracker.save(), "names": sorted(names.items())})
            yield task, with_ids(rows, task, self._tracks, self._run_id), behind


def track_shard(
    tracker: LightTracker, clock: Clock, names: dict[int, str], rows: ShardRows
) -> dict[str, pa.Array]:
    """The columns of `tracks`, but for the ids that all rows share, for one shard.

    Args:
        tracker: has seen the frames before; sees those of the shard.
        names: of classes by their ids; those of the shard are added.
        rows: what has landed of it. Frames that could not be decoded are passed over.
    """
    names |= rows.class_names
    found: list[tuple[int, float, TrackBox, float | None]] = []
    for number, frame in enumerate(rows.frames.tolist()):
        at = slice(rows.begins[number], rows.begins[number + 1])
        boxes = Boxes(rows.xyxy[at], rows.scores[at], rows.class_ids[at])
        size = int(rows.sizes[number, 0]), int(rows.sizes[number, 1])
        for one in tracker.step(float(clock.seconds[frame]), size, boxes):
            score = None if one.detection is None else float(boxes.scores[one.detection])
            found.append((frame, float(rows.pts_s[number]), one, score))
    tracks = [one for _, _, one, _ in found]
    sides = np.array([one.box for one in tracks], np.float64).reshape(-1, 4).astype(np.float32)
    lost = [one.detection is None for one in tracks]
    return {
        "frame_index": pa.array([frame for frame, _, _, _ in found], pa.int64()),
        "pts_s": pa.array([seconds for _, seconds, _, _ in found], pa.float64()),
        "track_id": pa.array([one.track_id for one in tracks], pa.int32()),
        "detection_index": pa.array([one.detection for one in tracks], pa.int32()),
        **{side: pa.array(sides[:, at]) for at, side in enumerate(("x1", "y1", "x2", "y2"))},
        "score": pa.array([score for _, _, _, score in found], pa.float32()),
        "class_id": pa.array([one.class_id for one in tracks], pa.int32()),
        "class_name": pa.array([names.get(one.class_id) for one in tracks], pa.string()),
        "state": pa.array(["lost" if one else "tracked" for one in lost], pa.string()),
    }
