"""What becomes of work that failed: tried again, cut down to what can be had, or given up.

Whoever was working when a process died pays for it; what was queued behind is only put off.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import ray
from ray.exceptions import RayError

from pipeline.engine.breaker import Breaker
from pipeline.engine.collector_link import CollectorLink
from pipeline.engine.job import Job
from pipeline.engine.lanes import Board, Indexing, Stream
from pipeline.engine.ray_errors import Cause, died, explain
from pipeline.engine.roster import Models, Roster, id_of
from pipeline.engine.tracker import Report, Tracker
from pipeline.records import Failure


@dataclass
class Recovery:
    """The driver's answers to errors."""

    job: Job
    tracker: Tracker
    collector: CollectorLink
    roster: Roster
    board: Board
    split: bool
    breaker: Breaker = field(init=False)

    def __post_init__(self) -> None:
        self.breaker = Breaker(self.job.config.engine.same_failures)

    # -- what is recorded -------------------------------------------------------------

    def record(self, report: Report) -> None:
        """Have the collector keep it; failures for one reason that repeats are held back."""
        for one in self.breaker.sort(report):
            self.collector.record(one)

    def release(self) -> None:
        """A shard has landed, or the run is at its end: record what was held back."""
        for report in self.breaker.release():
            self.collector.record(report)

    # -- what went wrong --------------------------------------------------------------

    def index_error(self, what: Indexing, error: RayError) -> None:
        """Reading a video's packets failed."""
        dead = died(error)
        self.roster.lost(dead)
        if dead and not what.lane.is_first(what):
            what.spared = True
        elif dead:
            self._spare(what.lane.queue[1:])
        strikes = what.strikes + (not what.spared)
        source = what.candidate.source
        cause = explain(error, "index").said(what.verdict)
        if cause.final or strikes >= self.job.config.engine.attempts:
            failure = Failure(
                source.uri,
                cause.stage,
                cause.reason,
                stamp=source.stamp,
                attempts=strikes,
                systemic=cause.systemic,
            )
            self.record(self.tracker.unreadable(source, failure))
        else:
            self.tracker.stats.retries += 1
            self.board.to_index.append((what.candidate, strikes))

    def shard_error(
        self, stream: Stream, error: RayError, number: int, models: Models | None
    ) -> None:
        """An attempt at a shard failed at its clip `number`, in the hands of `models` if those
        are another process."""
        if stream.failed:
            return  # Another result of the same attempt has told already.
        if self.collector.is_of(error):
            self.collector_died(error)
            return
        dead = died(error)
        self.roster.lost(dead)
        cause = explain(error, "analyze" if self.split else "decode")
        if cause.device_lost:
            # Nothing more can be computed there: whatever it is given would fail as well.
            broken = models.actor if models is not None else stream.lane.worker
            ray.kill(broken, no_restart=False)
            dead = id_of(broken)
            self.roster.lost(dead)
        if models is not None and dead == id_of(models.actor):
            cause = cause.said(models.verdict)
        if dead == id_of(stream.lane.worker) and stream in stream.lane.queue:
            first, *behind = stream.lane.queue
            self._spare(behind)
            if first is not stream and isinstance(first, Stream):
                self._strike(first, cause, first.drawn)
        self._strike(stream, cause.said(stream.verdict), number)

    def collector_died(self, error: RayError | None = None) -> None:
        """Wait for it to be back, and redo the shards that it did not have whole."""
        for stream in [*self.board.streams]:
            self._put_off(stream)
        self.tracker.stats.note("the collector died and was replaced; nothing was lost")
        self.collector.revive(error)

    # -- what is done about it --------------------------------------------------------

    def _strike(self, stream: Stream, cause: Cause, number: int) -> None:
        """End an attempt that failed at its clip `number`, and decide what comes next."""
        if stream.failed:
            return
        self._end(stream)
        work = stream.work
        retry = work.after(cause, number, self.job.analyses[0].fingerprint)
        if retry is None:
            attempts = max(1, work.trials.failed)
            self.record(self.tracker.shard_failed(work.task, cause, attempts))
        else:
            self.tracker.stats.retries += 1
            self.board.ready.append(retry)

    def _spare(self, behind: list[Stream | Indexing]) -> None:
        """What was queued behind something that killed the worker is not to blame for it."""
        for item in behind:
            if isinstance(item, Stream):
                self._put_off(item)
            else:
                item.spared = True

    def _put_off(self, stream: Stream) -> None:
        """End an attempt that is not to blame for its end."""
        if not stream.failed:
            self._end(stream)
            work = stream.work
            self.tracker.stats.retries += 1
            self.board.ready.append(replace(work, attempt=work.attempt + 1))

    def _end(self, stream: Stream) -> None:
        stream.failed = True
        if stream.done:
            self.board.streams.remove(stream)
        self.collector.discard(stream.work.task.key, stream.work.attempt)
