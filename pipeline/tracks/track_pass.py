"""The pass that makes tracks of detections that have landed, each video's shards in their order.

    shard         0          1          2
    detections    landed     landed     landed
    tracks        rows ──┐   rows ──┐   rows         each shard's rows land together with the state
                       state      state              of the tracker behind it

A run that is cut goes on behind the last shard that landed, with the state found there, and its
rows are those of a run that was not. What is done by two runs at once lands once: it is the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Set
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pipeline.engine.cause import Cause, as_video_errors
from pipeline.engine.job import Job
from pipeline.errors import DeviceLost, RunAborted, VideoError
from pipeline.ledger.remap import with_ids
from pipeline.records import NO_FILE, Analysis, Failure, ShardTask, VideoIndex
from pipeline.sources.plan import plan_video, sampled_frames
from pipeline.tracks.analysis import bases_of, prompts_of
from pipeline.tracks.landed import LandedRows, ShardRows
from pipeline.tracks.shards import Opening, SavedState, ShardTracks, follower_of
from pipeline.tracks.state import pack, unpack
from pipeline.tracks.state_files import StateFiles
from pipeline.tracks.video_work import Followed, Spread, VideoWork

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
    spread: Spread,
    retry_failed: bool = False,
) -> list[Failure]:
    """Make the tracks that are due, of videos all of whose detections are there.

    Args:
        worked: ids of videos that the run itself has ended: boxes are followed whatever the budget,
            as what is under way at its end is finished; pictures are not.
        backlog: those of videos that have nothing else due.
        spread: what follows the videos.
        retry_failed: also of videos whose tracks were given up before.

    Returns what was given up. Raises RunAborted where the store cannot be written.
    """
    from pipeline.ledger.books import Books
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
        books = Books(job.output)
        tracks = _TrackPass(job, job.tracks, books, writer, stats, retry_failed)
        sure = worked if not job.looks_again else frozenset()
        given = tracks.works(due, lambda video_id: video_id not in sure and budget.is_up)
        stop = (lambda: budget.is_up) if job.looks_again else (lambda: False)
        for followed in spread(given, tracks.rows_of, stop):
            tracks.take(followed)
    tracks.tidy()
    stats.left.videos += tracks.left
    if tracks.begun:
        stats.tracked = len(tracks.begun)
        stats.worked.add(fingerprint)
        stats.rows["tracks"] = stats.rows.get("tracks", 0) + tracks.rows
    stats.committed(writer.stats.commits, writer.stats.commit_s)
    stats.track_s += time.perf_counter() - started
    stats.say("")
    return tracks.given_up


def follow_here(job: Job, device: str, threads: int = 1) -> Spread:
    """A spread over this process alone: see `shards.follower_of`."""

    def spread(
        given: Iterator[VideoWork],
        rows_of: Callable[[ShardTask], ShardRows],
        stop: Callable[[], bool],
    ) -> Iterator[Followed]:
        follower = None
        for work in given:
            # Once there is something to do: a model takes its time.
            follower = follower or follower_of(job.config, device, threads)
            while not work.is_done and not stop():
                opening, task, is_last = work.next()
                try:
                    follow = partial(follower.follow, opening, task, rows_of(task), is_last)
                    tracks = as_video_errors(follow, "analyze")
                except DeviceLost as error:
                    raise RunAborted(
                        f"{error.reason}: the GPU cannot be used any more by this process; run "
                        "again, or with --engine ray, which replaces such processes"
                    ) from error
                except VideoError as error:
                    cause = Cause.of(error)
                    if not work.failed(cause):
                        yield Followed(work, task, cause)
                        break
                    continue
                yield Followed(work, work.done(tracks), tracks)

    return spread


class _TrackPass:
    """The videos of a run, and what has come of them."""

    def __init__(
        self,
        job: Job,
        tracks: Analysis,
        books: Books,
        writer: LedgerWriter,
        stats: RunStats,
        retry_failed: bool,
    ) -> None:
        self._job = job
        self._tracks = tracks
        self._books = books
        self._writer = writer
        self._stats = stats
        self._retry_failed = retry_failed
        self._needed = bases_of(tracks)
        self._landed = LandedRows(job.output, *self._needed, tracks.fingerprint)
        self._files = StateFiles(job.output, tracks.fingerprint)
        self._prompts = prompts_of(job.config)
        self._sizes: dict[str, list[int]] = {}
        """Of videos under way, width and height of the newest picture."""
        self._ready: dict[str, int | None] = {}
        """By video the shard up to which states may go with the next commit; None: all."""
        self._files.sweep(lambda video_id: books.video_done(video_id, tracks.fingerprint))
        self._under_way: set[str] = set()
        self.begun: set[str] = set()
        self.rows = 0
        self.given_up: list[Failure] = []

    def works(self, due: list[bytes], leave: Callable[[bytes], bool]) -> Iterator[VideoWork]:
        """What videos lack of their tracks; those to leave are counted."""
        for number, video_id in enumerate(due, 1):
            if leave(video_id):
                self._stats.left.videos += 1
                continue
            self._stats.say(f"tracks: video {number:,} of {len(due):,}")
            work = self._work(video_id.hex())
            if work is not None:
                self._under_way.add(work.video_id)
                yield work

    def rows_of(self, task: ShardTask) -> ShardRows:
        """What has landed of a shard."""
        rows = self._landed.shard(task)
        self._note_sizes(task, rows)
        return rows

    def _work(self, video_id: str) -> VideoWork | None:
        """None where a video lacks nothing, or lacks detections: they come with a run that tries
        what has failed again."""
        index = self._books.index(video_id)
        if index is None or not all(self._books.video_done(video_id, p) for p in self._needed):
            return None
        tasks = plan_video(NO_FILE, index, self._job.grid)
        there = self._books.landed(video_id, self._tracks.fingerprint)
        first = next((n for n in range(len(tasks)) if n not in there), len(tasks))
        if first == len(tasks):
            return None
        if not self._retry_failed and self._books.failed(video_id, self._tracks.fingerprint):
            self._stats.tracks_failed += 1
            return None
        saved = self._saved(video_id, first - 1) if first else None
        # Without its state all is made again; what has landed does not land twice.
        left = tasks[first:] if saved is not None else tasks
        places = self._landed.places(video_id) if self._job.looks_again else ()
        prompts = self._prompts.of([uri for uri, _ in places])
        self._check_sampled(index, prompts)
        names = {number: name for name, number in self._prompts.class_ids.items()}
        opening = Opening(index, places, prompts, names if prompts else {}, saved)
        return VideoWork(opening, left, self._job.config.engine.attempts)

    def _check_sampled(self, index: VideoIndex, prompts: Iterable[int]) -> None:
        sampled = set(sampled_frames(index, self._job.grid.sampling).tolist())
        for frame in prompts:
            if frame not in sampled:
                self._stats.note(
                    f"video {index.video_id[:12]}: frame {frame} has a prompt, and is not sampled"
                )

    def _saved(self, video_id: str, shard_index: int) -> SavedState | None:
        text = self._landed.state(video_id, shard_index)
        if text is None:
            return None
        facts = unpack(text)
        if "tensors" not in facts:
            return SavedState(facts)
        tensors = self._files.read(video_id, shard_index, facts.pop("tensors"))
        return SavedState(facts, tensors) if tensors is not None else None

    def take(self, followed: Followed) -> None:
        """Keep the rows of a shard, or that a video has been given up."""
        work, task, came = followed
        if isinstance(came, Cause):
            self._give_up(work, task, came)
            return
        self._keep(work, task, came)
        if self._writer.flush_if_due():
            self.tidy()

    def _keep(self, work: VideoWork, task: ShardTask, came: ShardTracks) -> None:
        number = task.shard.shard_index
        self.begun.add(work.video_id)
        if work.is_done:
            self._under_way.discard(work.video_id)
            self._sizes.pop(work.video_id, None)
        facts = came.state.facts
        if came.state.tensors:
            try:
                checksum = self._files.write(work.video_id, number, came.state.tensors)
            except OSError as error:
                what = f"output {self._job.output}: cannot write the state of tracks"
                raise RunAborted(f"{what}: {error.strerror or error}") from error
            facts = {**facts, "tensors": checksum}
        if self._job.looks_again:
            self._ready[work.video_id] = None if work.is_done else number
        rows = with_ids(came.rows, task, self._tracks, self._job.run_id)
        self.rows += rows.num_rows
        self._writer.add_derived(task, self._tracks.fingerprint, rows, pack(facts))

    def _give_up(self, work: VideoWork, task: ShardTask, cause: Cause) -> None:
        uri, stamp = next(iter(work.opening.places), ("", ""))
        last = work.left[-1]
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
        self._writer.add_failure(failure)
        self._under_way.discard(work.video_id)
        self._stats.tracks_failed += 1
        self._stats.failures += 1
        self._stats.reasons.count(failure)
        self.given_up.append(failure)

    def _note_sizes(self, task: ShardTask, rows: ShardRows) -> None:
        """Say where the picture changes its size: tracks end there, and begin anew."""
        if not len(rows.frames):
            return
        video_id = task.index.video_id
        first = rows.sizes[0].tolist()
        sizes = np.concatenate([[self._sizes.get(video_id, first)], rows.sizes])
        for at in np.flatnonzero((sizes[1:] != sizes[:-1]).any(axis=1)).tolist():
            (width, height), (w, h) = sizes[at].tolist(), sizes[at + 1].tolist()
            self._stats.note(
                f"video {video_id[:12]}: tracks end and begin anew at frame {rows.frames[at]}, "
                f"where the picture changes from {width}x{height} to {w}x{h}"
            )
        self._sizes[video_id] = sizes[-1].tolist()

    @property
    def left(self) -> int:
        """Videos that were begun, or to be, and are neither done nor given up."""
        return len(self._under_way)

    def tidy(self) -> None:
        """After a commit: remove states that nobody goes on from."""
        for video_id, shard in self._ready.items():
            self._files.forget(video_id, shard)
        self._ready.clear()
