"""What videos lack of their tracks: found in the books, taken from other runs, opened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.config_trackers import Sam2Config
from pipeline.engine.job import Job
from pipeline.errors import RunAborted
from pipeline.records import NO_FILE, Analysis, ShardTask, VideoIndex
from pipeline.sources.plan import plan_video, sampled_frames
from pipeline.tracks.analysis import bases_of, prompts_of, prompts_sum
from pipeline.tracks.landed import LandedRows, ShardRows
from pipeline.tracks.parallel_work import ParallelWork
from pipeline.tracks.shards import Opening, SavedState
from pipeline.tracks.state import unpack
from pipeline.tracks.state_files import StateFiles
from pipeline.tracks.video_work import VideoWork

if TYPE_CHECKING:
    from pipeline.engine.stats import RunStats
    from pipeline.ledger.books import Books
    from pipeline.ledger.leases import Lease


class DueVideos:
    """The videos of a pass that lack tracks, each opened when it is asked for.

    Args:
        lease: of the run. Where pictures are followed a video is one run's at a time; boxes cost
            less than to ask.
        retry_failed: also those whose tracks were given up before.

    Raises RunAborted where the prompts have changed since the run began.
    """

    def __init__(
        self,
        job: Job,
        tracks: Analysis,
        stats: RunStats,
        lease: Lease | None = None,
        retry_failed: bool = False,
    ) -> None:
        from pipeline.ledger.books import Books

        self._job = job
        self._tracks = tracks
        self._stats = stats
        self._lease = lease if job.looks_again else None
        self._retry_failed = retry_failed
        self._needed = bases_of(tracks)
        self.files = StateFiles(job.output, tracks.fingerprint)
        if job.looks_again and prompts_sum(job.config) != tracks.identity["prompts"]:
            raise RunAborted("the file of tracker.prompts has changed meanwhile; run again")
        self._prompts = prompts_of(job.config)
        self._read(Books(job.output))
        for name in self._prompts.for_nothing(self._landed.uris()):
            stats.note(f"prompts for {name}: the output has no such video")
        self.files.sweep(self._is_done)

    def _read(self, books: Books) -> None:
        from pipeline.ledger.news import News
        from pipeline.ledger.store import Store

        self._books = books
        self._news = News(Store(self._job.output), self._job.run_id, books.versions)
        self._landed = LandedRows(self._job.output, *self._needed, self._tracks.fingerprint)

    def works(self, due: Sequence[bytes], leave: Callable[[bytes], bool]) -> Iterator[VideoWork]:
        """One after another; those to leave, and those that another run follows, are counted."""
        for number, key in enumerate(due, 1):
            video_id = key.hex()
            if leave(key):
                self._stats.left.videos += 1
            elif self._lacks(video_id):
                self._stats.say(f"tracks: video {number:,} of {len(due):,}")
                if self._lease is not None and not self._lease.take(self._name(video_id)):
                    self._stats.left.other_run += 1
                    continue
                if self._news.of(video_id):
                    # Another run had begun it, or has done it, since the books were read.
                    self._read(self._books.reopened())
                work = self._work(video_id)
                if work is not None:
                    yield work

    def rows_of(self, task: ShardTask) -> ShardRows:
        """What has landed of a shard, and of the frames before that it is to begin with."""
        tracker, before = self._job.config.tracker, None
        if isinstance(tracker, Sam2Config) and tracker.parallel:
            sampled = sampled_frames(task.index, self._job.grid.sampling)
            before = int(sampled[max(0, task.shard.own_start - tracker.overlap_frames)])
        return self._landed.shard(task, before)

    def places(self, video_id: str) -> tuple[tuple[str, str], ...]:
        """(uri, stamp) of the files that have had the content."""
        return self._landed.places(video_id)

    def track_ids(self, task: ShardTask) -> list[tuple[int, int]]:
        """(frame_index, track_id) of the tracks that have landed of a shard, in order."""
        return self._landed.track_ids(task)

    def _name(self, video_id: str) -> str:
        return f"{self._tracks.fingerprint} {video_id}"

    def _is_done(self, video_id: str) -> bool:
        return self._books.video_done(video_id, self._tracks.fingerprint)

    def _lacks(self, video_id: str) -> bool:
        """Whether there is anything to do; not where a video lacks detections: they come with a
        run that tries what has failed again."""
        if self._is_done(video_id):
            return False
        if not all(self._books.video_done(video_id, base) for base in self._needed):
            return False
        if self._books.failed(video_id, self._tracks.fingerprint) and not self._retry_failed:
            self._stats.tracks_failed += 1
            return False
        return True

    def _work(self, video_id: str) -> VideoWork | None:
        index = self._books.index(video_id)
        if index is None:
            return None
        tasks = plan_video(NO_FILE, index, self._job.grid)
        there = self._books.landed(video_id, self._tracks.fingerprint)
        first = next((n for n in range(len(tasks)) if n not in there), len(tasks))
        if first == len(tasks):
            return None
        saved = self._saved(video_id, first - 1) if first else None
        # Without its state all is made again; what has landed does not land twice.
        left = tasks[first:] if saved is not None else tasks
        again = frozenset(there) if saved is None else frozenset()
        attempts = self._job.config.engine.attempts
        opening = self._opening(index, saved)
        tracker = self._job.config.tracker
        if isinstance(tracker, Sam2Config) and tracker.parallel:
            return ParallelWork(tracker, opening, left, attempts, again)
        return VideoWork(opening, left, attempts, again)

    def _opening(self, index: VideoIndex, saved: SavedState | None) -> Opening:
        if not self._job.looks_again:
            return Opening(index, saved=saved)
        places = self.places(index.video_id)
        prompts = self._prompts.of([uri for uri, _ in places])
        if not prompts:
            return Opening(index, places, saved=saved)
        self._check_sampled(index, prompts)
        names = {number: name for name, number in self._prompts.class_ids.items()}
        return Opening(index, places, prompts, names, saved)

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
        tensors = self.files.read(video_id, shard_index, facts.pop("tensors"))
        return SavedState(facts, tensors) if tensors is not None else None
