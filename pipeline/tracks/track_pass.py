"""The pass that makes tracks of detections that have landed, each video's shards in their order.

    shard         0          1          2
    detections    landed     landed     landed
    tracks        rows ──┐   rows ──┐   rows         each shard's rows land together with the state
                       state      state              of the tracker behind it

A run that is cut goes on behind the last shard that landed, with the state found there, and its
rows are those of a run that was not. Boxes that two runs follow at once land once: the rows are the
same. Masks hang on the machine in their last bits, so a video is followed by one run at a time, and
one whose state is lost only where its tracks come out as those that have landed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Set
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from pipeline.engine.breaker import Breaker
from pipeline.engine.cause import Cause
from pipeline.engine.course import Report
from pipeline.engine.job import Job
from pipeline.errors import RunAborted
from pipeline.ledger.remap import with_ids
from pipeline.records import Analysis, Failure, ShardTask
from pipeline.tracks.due_videos import DueVideos
from pipeline.tracks.shards import ShardTracks
from pipeline.tracks.state import pack
from pipeline.tracks.video_work import Followed, Spread, VideoWork

if TYPE_CHECKING:
    from pipeline.engine.budget import Budget
    from pipeline.engine.stats import RunStats
    from pipeline.ledger.commit import LedgerWriter
    from pipeline.ledger.leases import Lease

MOST_TOLD = 50
"""Of what was given up, for the end of a run; the table has all."""


def track_videos(
    job: Job,
    worked: Set[bytes],
    backlog: Set[bytes],
    budget: Budget,
    stats: RunStats,
    spread: Spread,
    lease: Lease | None = None,
    retry_failed: bool = False,
) -> list[Failure]:
    """Make the tracks that are due, of videos all of whose detections are there.

    Args:
        worked: ids of videos that the run itself has ended: boxes are followed whatever the budget,
            as what is under way at its end is finished; pictures are not.
        backlog: those of videos that have nothing else due.
        spread: what follows the videos.
        lease: what other runs are told by.
        retry_failed: also of videos whose tracks were given up before.

    Returns the first of what was given up. Raises RunAborted where the store cannot be written, or
    too many videos in a row fail for one reason.
    """
    from pipeline.ledger.commit import LedgerWriter

    # In the order of the table: files of a commit then hold ids that no other file holds.
    due = [*sorted(worked), *sorted(backlog - worked)]
    if job.tracks is None or not due:
        return []
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
        videos = DueVideos(job, job.tracks, stats, lease, retry_failed)
        tracks = _TrackPass(job, job.tracks, videos, writer, budget, stats)
        sure = worked if not job.looks_again else frozenset()
        given = videos.works(due, lambda video_id: video_id not in sure and budget.is_up)
        stop = (lambda: budget.is_up) if job.looks_again else (lambda: False)
        with closing(spread(tracks.begin(given), videos.rows_of, stop)) as all_followed:  # type: ignore[type-var]
            for followed in all_followed:
                tracks.take(followed)
        tracks.end()
    tracks.tidy()
    if tracks.begun:
        stats.tracked = len(tracks.begun)
        stats.worked.add(fingerprint)
        stats.rows["tracks"] = stats.rows.get("tracks", 0) + tracks.rows
    stats.committed(writer.stats.commits, writer.stats.commit_s)
    stats.track_s += time.perf_counter() - started
    stats.say("")
    return tracks.given_up


class _TrackPass:
    """What has come of the videos of a run."""

    def __init__(
        self,
        job: Job,
        tracks: Analysis,
        videos: DueVideos,
        writer: LedgerWriter,
        budget: Budget,
        stats: RunStats,
    ) -> None:
        self._job = job
        self._tracks = tracks
        self._videos = videos
        self._writer = writer
        self._budget = budget
        self._stats = stats
        self._breaker = Breaker(job.config.engine.same_failures)
        self._sizes: dict[str, list[int]] = {}
        """Of videos under way, width and height of the newest picture."""
        self._ready: dict[str, int | None] = {}
        """By video the shard up to which states may go with the next commit; None: all."""
        self._under_way: set[str] = set()
        self.begun: set[str] = set()
        self.rows = 0
        self.given_up: list[Failure] = []

    def begin(self, given: Iterator[VideoWork]) -> Iterator[VideoWork]:
        """The same, each noted as it goes out."""
        for work in given:
            self._under_way.add(work.video_id)
            yield work

    def take(self, followed: Followed) -> None:
        """Keep the rows of a shard, or that a video has been given up."""
        work, task, came, rows = followed
        if isinstance(came, ShardTracks) and task.shard.shard_index in work.again:
            came = self._checked(task, came) or came
        if isinstance(came, Cause):
            self._give_up(work, task, came)
            return
        self._record(self._breaker.release())
        self._note_sizes(task, rows.frames[rows.lead :], rows.sizes[rows.lead :])
        self._keep(work, task, came)
        if self._job.looks_again:
            self._budget.begins(task.frame_count)
        if self._writer.flush_if_due():
            self.tidy()

    def _checked(self, task: ShardTask, came: ShardTracks) -> Cause | None:
        """Why a shard that has landed is not gone on from, made again."""
        made = zip(
            came.rows["frame_index"].to_pylist(), came.rows["track_id"].to_pylist(), strict=True
        )
        if list(made) == self._videos.track_ids(task):
            return None
        return Cause(
            "analyze",
            "the state behind the tracks that have landed is lost, and made again here they come "
            "out otherwise",
            final=True,
        )

    def _keep(self, work: VideoWork, task: ShardTask, came: ShardTracks) -> None:
        number = task.shard.shard_index
        self.begun.add(work.video_id)
        if work.is_done:
            self._ended(work)
        facts = came.state.facts
        if came.state.tensors:
            try:
                checksum = self._videos.files.write(work.video_id, number, came.state.tensors)
            except OSError as error:
                what = f"output {self._job.output}: cannot write the state of tracks"
                raise RunAborted(f"{what}: {error.strerror or error}") from error
            facts = {**facts, "tensors": checksum}
        if self._job.looks_again:
            self._ready[work.video_id] = None if work.is_done else number
        rows = with_ids(came.rows, task, self._tracks, self._job.run_id)
        self.rows += rows.num_rows
        self._writer.add_derived(task, self._tracks.fingerprint, rows, pack(facts))

    def _ended(self, work: VideoWork) -> None:
        self._under_way.discard(work.video_id)
        self._sizes.pop(work.video_id, None)

    def _give_up(self, work: VideoWork, task: ShardTask, cause: Cause) -> None:
        uri, stamp = next(iter(self._videos.places(work.video_id)), ("", ""))
        last = (work.left or (task,))[-1]
        failure = Failure(
            uri=uri,
            stamp=stamp,
            stage=cause.stage,
            reason=cause.reason,
            systemic=cause.systemic,
            video_id=work.video_id,
            analysis=self._tracks.fingerprint,
            shard_index=task.shard.shard_index,
            first_frame=int(task.frames_of(task.shard.own_start, task.shard.own_stop)[0]),
            last_frame=int(last.frames_of(last.shard.own_start, last.shard.own_stop)[-1]),
            attempts=work.strikes,
        )
        work.give_up()
        self._ended(work)
        self._record(self._breaker.sort(Report([failure])))

    def _record(self, reports: list[Report]) -> None:
        for report in reports:
            for failure in report.failures:
                self._writer.add_failure(failure)
                self._stats.tracks_failed += 1
                self._stats.failures += 1
                self._stats.reasons.count(failure)
                if len(self.given_up) < MOST_TOLD:
                    self.given_up.append(failure)

    def _note_sizes(self, task: ShardTask, frames: np.ndarray, sizes: np.ndarray) -> None:
        """Say where the picture changes its size: tracks end there, and begin anew."""
        if not len(frames):
            return
        video_id = task.index.video_id
        sizes = np.concatenate([[self._sizes.get(video_id, sizes[0].tolist())], sizes])
        for at in np.flatnonzero((sizes[1:] != sizes[:-1]).any(axis=1)).tolist():
            (width, height), (w, h) = sizes[at].tolist(), sizes[at + 1].tolist()
            self._stats.note(
                f"video {video_id[:12]}: tracks end and begin anew at frame {frames[at]}, "
                f"where the picture changes from {width}x{height} to {w}x{h}"
            )
        self._sizes[video_id] = sizes[-1].tolist()

    def end(self) -> None:
        """No more comes: of what was begun some may be left."""
        self._record(self._breaker.release())
        self._stats.left.videos += len(self._under_way)

    def tidy(self) -> None:
        """After a commit: remove states that nobody goes on from."""
        for video_id, shard in self._ready.items():
            self._videos.files.forget(video_id, shard)
        self._ready.clear()
