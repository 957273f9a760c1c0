"""The course of a run, as its driver knows it: what is due, in work, ended, and how it ended.

Plain Python, the same for both engines. Holds counts and ids, never rows or pixels.
"""

from __future__ import annotations

import math
import random
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from pipeline.engine.budget import Budget
from pipeline.engine.cause import Cause
from pipeline.engine.stats import Ack, RunStats
from pipeline.ledger.adopt import take_over_from_dead
from pipeline.ledger.leases import Lease
from pipeline.ledger.outcomes import lost_frames
from pipeline.records import (
    Failure,
    ShardEnd,
    ShardTask,
    Source,
    VideoIndex,
    VideoOutcome,
)
from pipeline.resume import Candidate, Corpus


@dataclass
class Report:
    """Rows that the end of a piece of work gives rise to, for the collector to record."""

    failures: list[Failure] = field(default_factory=list)
    outcomes: list[VideoOutcome] = field(default_factory=list)


@dataclass
class _InWork:
    """One video (by content) that has shards under way."""

    index: VideoIndex
    sources: list[Source]
    left: int
    problems: list[str] = field(default_factory=list)
    lost_shards: int = 0
    any_landed: bool = False


class Course:
    """Streams what is due, and turns what engines report into outcomes to be recorded.

    An engine takes sources from `next_due()`, gives each an index (`known_index` or its own work),
    calls `begin`, works the tasks it returns, and reports every one of them exactly once with
    `shard_done` or `shard_failed`. What those return goes to the collector.
    """

    def __init__(
        self,
        corpus: Corpus,
        stats: RunStats,
        limit: int | None = None,
        lease: Lease | None = None,
        budget: Budget | None = None,
    ) -> None:
        """`lease`: what other runs at work in the same output are told by; None: they are not."""
        self.corpus = corpus
        self.stats = stats
        self.lease = lease
        self.budget = budget or Budget()
        self.exhausted = False
        self.waiting = False
        self.problems: list[Failure] = []
        """The first failures of the run, for the summary."""
        self.worked: set[bytes] = set()
        """Ids of videos that have ended, for what is made of their rows."""
        self._limit = limit
        self._in_work: dict[str, _InWork] = {}
        self._ended: dict[bytes, tuple[str, str]] = {}
        self._found: Iterator[Candidate] = iter(())
        """What of the inputs has not been looked at in this pass."""
        self._candidates = self._stream()

    _KEPT_PROBLEMS = 50
    POLL_S = 0.4 + 0.2 * random.random()
    """How often to ask again while another run is waited for; not at one pace with it."""
    COUNT_S = 60.0
    """For how long a run whose budget is up looks for what it leaves."""

    # -- what is due ------------------------------------------------------------------

    def next_due(self) -> Candidate | None:
        """The next candidate with work in it, or with a failure to record (`candidate.failure`).

        None where there is none now: ever again if `exhausted`, or, if `waiting`, until another
        run has ended that works on what is left. Whoever waits has committed what it has done
        and called `lease.release` before, or two runs would wait for each other.
        """
        candidate = next(self._candidates, None)
        if candidate is None and not self.waiting:
            self.exhausted = True
        return candidate

    def first_due(self) -> Candidate | None:
        """As `next_due`, but waits; None where there is nothing to do."""
        candidate = self.next_due()
        while candidate is None and not self.exhausted:
            time.sleep(self.POLL_S)
            candidate = self.next_due()
        return candidate

    def _stream(self) -> Iterator[Candidate | None]:
        left: set[str] | None = None
        """Of the pass before: videos that another run had taken."""
        while left is None or left:
            among, left = left, set()
            found = self.corpus.candidates()
            self._found = found if among is None else _only(found, among)
            undone = (candidate for candidate in self._found if not self._is_known(candidate))
            while not self._is_full and (group := self._next_of(undone)):
                taken = self._take(group)
                while group and not self._is_full:
                    candidate = self.corpus.as_it_is(group.popleft())
                    if candidate.source.uri not in taken:
                        left.add(candidate.source.uri)
                    elif not self._is_known(candidate):
                        self.stats.videos_started += 1
                        yield candidate
                self.stats.left.videos += len(group)
            if left and not self._is_full:
                yield from self._others_done(left)
                # Where it died, what it had finished is not done again.
                take_over_from_dead(self.corpus.job.output)
                self.corpus.reopen()
            if self._is_full:
                self.stats.left.other_run = len(left)
                return

    @property
    def _room(self) -> float:
        """How many videos may still be begun."""
        if self.budget.is_up:
            return 0
        return math.inf if self._limit is None else self._limit - self.stats.videos_started

    @property
    def _is_full(self) -> bool:
        return self._room < 1

    def _is_known(self, candidate: Candidate) -> bool:
        """Count a video that there is nothing to do for."""
        if candidate.state == "done":
            self.stats.skipped_done += 1
            self.stats.known_partial += candidate.partial
        elif candidate.state == "failed":
            self.stats.known_failed += 1
        return candidate.state in ("done", "failed")

    def _next_of(self, undone: Iterator[Candidate]) -> deque[Candidate]:
        """As many as are to be taken at once."""
        at_once = self.lease.at_once if self.lease is not None else 1
        return deque(islice(undone, int(max(1, min(at_once, self._room)))))

    def _take(self, group: Iterable[Candidate]) -> set[str]:
        """Those that are this run's to work on, by uri."""
        uris = [candidate.source.uri for candidate in group]
        return self.lease.take_all(uris) if self.lease is not None else set(uris)

    def _others_done(self, left: set[str]) -> Iterator[None]:
        self.waiting = True
        self.stats.say(f"another run works on {len(left):,} of the videos; waiting for its end")
        while self.lease is not None and self.lease.others_hold(left) and not self.budget.is_up:
            yield None
        self.stats.say("")
        self.waiting = False

    def count_left(self) -> None:
        """Look through the rest of the inputs, after the last work, for what is left of them."""
        left = self.stats.left
        left.videos += self.stats.videos_begun_only
        # Whoever sets a limit does not want all of the inputs to be looked at.
        until = time.monotonic() + (self.COUNT_S if self.budget.is_up else 0.0)
        for candidate in self._found:
            if time.monotonic() > until:
                left.counted = False
                break
            left.videos += not self._is_known(candidate)
        if left:
            left.why = f"its budget of {self.budget}" if self.budget.is_up else "its limit"

    def known_index(self, candidate: Candidate) -> VideoIndex | None:
        """The index that the output keeps, where the file is the one it was made of."""
        if candidate.state in ("unfinished", "stale") and candidate.video_id is not None:
            return self.corpus.books.index(candidate.video_id)
        return None

    # -- how it goes ------------------------------------------------------------------

    def begin(self, source: Source, index: VideoIndex) -> tuple[list[ShardTask], Report]:
        """Tasks of an indexed video, and outcomes where there is nothing (more) to do for it."""
        video_id = index.video_id
        if video_id in self._in_work:
            # The same bytes under another name: one video, with one more source.
            self._in_work[video_id].sources.append(source)
            return [], Report()
        ended = self._ended.get(bytes.fromhex(video_id))
        if ended is not None:
            return [], Report(outcomes=[self._outcome(source, index, *ended)])
        now = self.corpus.settled_by_others(source, video_id)
        if now is not None and self._is_known(now):
            self.stats.videos_started -= 1
            return [], Report()
        tasks = self.corpus.tasks(source, index)
        self.stats.worked |= {fingerprint for task in tasks for fingerprint in task.analyses}
        video = _InWork(index, [source], len(tasks))
        if index.damage:
            video.problems.append(index.damage)
        if not tasks:
            # Its bytes are known under another name, or it was only touched.
            return [], Report(outcomes=self._end(video))
        self._in_work[video_id] = video
        if not index.damage:
            return tasks, Report()
        failure = _damage(source, index)
        self._note(failure)
        return tasks, Report([failure])

    def unreadable(self, source: Source, failure: Failure) -> Report:
        """A source that never got an index."""
        self._note(failure)
        return Report([failure], [self._outcome(source, None, "failed", failure.reason)])

    def leave(self, task: ShardTask) -> None:
        """A shard is not begun, since the budget is up: its video is for the next run to end."""
        self.stats.left.planned_shards += 1
        self.stats.left.planned_frames += task.frame_count

    def acknowledge(self, ack: Ack) -> None:
        """Count what a result brought."""
        self.stats.saw(ack)
        for table, rows in ack.rows.items():
            self.stats.rows[table] = self.stats.rows.get(table, 0) + rows
        self.stats.committed(ack.commits, ack.commit_s)

    def shard_done(self, task: ShardTask, end: ShardEnd) -> Report:
        """A shard is whole in the collector, which keeps what `end` misses together with it."""
        video = self._in_work[task.index.video_id]
        video.any_landed = True
        self.stats.shards += 1
        self.stats.frames += task.frame_count
        self.stats.cached_frames += end.cached_frames
        for note in end.notes:
            self.stats.note(note)
        failures = lost_frames(task, end, self.corpus.job.analyses[0].fingerprint)
        if failures:
            lost = sum(f.frame_count for f in failures)
            video.problems.append(f"{lost} frames are missing: {failures[0].reason}")
        elif end.missing_reason and not end.missing:
            video.problems.append(end.missing_reason)
        for failure in failures:
            self._note(failure)
        return Report(outcomes=self._settle(video))

    def shard_failed(self, task: ShardTask, cause: Cause, attempts: int) -> Report:
        """A shard has been given up; its rows are missing in each of its analyses."""
        video = self._in_work[task.index.video_id]
        video.lost_shards += 1
        frames = task.frames_of(task.shard.own_start, task.shard.own_stop)
        first, last = int(frames[0]), int(frames[-1])
        video.problems.append(f"frames {first} to {last}: {cause.reason}")
        failures = [
            Failure(
                uri=task.source.uri,
                stamp=task.source.stamp,
                stage=cause.stage,
                reason=cause.reason,
                systemic=cause.systemic,
                video_id=task.index.video_id,
                analysis=analysis,
                shard_index=task.shard.shard_index,
                first_frame=first,
                last_frame=last,
                attempts=attempts,
            )
            for analysis in task.analyses
        ]
        self._note(failures[0])
        return Report(failures, self._settle(video))

    def _settle(self, video: _InWork) -> list[VideoOutcome]:
        video.left -= 1
        if video.left:
            return []
        del self._in_work[video.index.video_id]
        return self._end(video)

    def _end(self, video: _InWork) -> list[VideoOutcome]:
        video_id = video.index.video_id
        books = self.corpus.books
        fingerprints = [analysis.fingerprint for analysis in self.corpus.job.analyses]
        landed_before = any(books.landed(video_id, f) for f in fingerprints)
        failed_before = any(books.failed(video_id, f) for f in fingerprints)
        lacks_frames = books.lacks_frames(video_id, fingerprints[0])
        if landed_before and not video.problems and lacks_frames:
            # Said by the run that was stopped before it could say how the video ended.
            video.problems.append("some frames are missing (see the table failures)")
        status = "ok"
        if video.lost_shards and not (video.any_landed or landed_before):
            status = "failed"
        elif video.problems or (failed_before and not self.corpus.retry_failed):
            status = "partial"
        reason = "; ".join(video.problems[:3])
        self._ended[bytes.fromhex(video_id)] = (status, reason)
        if self.corpus.job.tracks is not None:
            self.worked.add(bytes.fromhex(video_id))
        return [self._outcome(source, video.index, status, reason) for source in video.sources]

    def _outcome(
        self, source: Source, index: VideoIndex | None, status: str, reason: str
    ) -> VideoOutcome:
        self.stats.videos[status] += 1
        return VideoOutcome(source, index, status, reason)  # type: ignore[arg-type]

    def _note(self, failure: Failure) -> None:
        self.stats.failures += 1
        self.stats.reasons.count(failure)
        if len(self.problems) < self._KEPT_PROBLEMS:
            self.problems.append(failure)


def _only(found: Iterator[Candidate], uris: set[str]) -> Iterator[Candidate]:
    return (candidate for candidate in found if candidate.source.uri in uris)


def _damage(source: Source, index: VideoIndex) -> Failure:
    """Of the frames behind the last, as far as the header tells how many there were."""
    # Where no header says how many frames there were, the range is open at its end.
    more = index.expected_frames > index.frame_count
    return Failure(
        uri=source.uri,
        stamp=source.stamp,
        stage="index",
        reason=index.damage,
        video_id=index.video_id,
        first_frame=index.frame_count,
        last_frame=index.expected_frames - 1 if more else None,
    )
