"""What becomes of work that failed: tried again, cut down to what can be had, or given up.

Whoever was working when a process died pays for it; what was queued behind is only put off. Where
the whole node has gone, nobody pays: a process that died is judged when it is known whether its
node has survived it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ray.exceptions import RayError

from pipeline.engine.breaker import Breaker
from pipeline.engine.collector_link import CollectorLink
from pipeline.engine.collectors import Collectors
from pipeline.engine.course import Course, Report
from pipeline.engine.fleet import Fleet
from pipeline.engine.job import Job
from pipeline.engine.lanes import (
    MOST_EXCUSED,
    Board,
    Indexing,
    Lane,
    Member,
    Models,
    Result,
    Stream,
    Work,
)
from pipeline.engine.ray_errors import Cause, died, explain, tells_of_lost_node
from pipeline.records import Failure

JUDGE_S = 60.0
"""Within which a cluster notices that a node has gone (Ray's default takes about 15 s)."""


@dataclass(frozen=True)
class _Death:
    """Of a process, as far as it is known: a reply may have been lost instead."""

    member: Member
    process: str
    """Of the member's processes, the one that had the work."""


@dataclass(frozen=True)
class _Undecided:
    """A failure by the death of a process."""

    death: _Death
    since: float
    guilty: Callable[[], None]
    """What to do where its node has survived."""
    innocent: Callable[[], None]


@dataclass
class Recovery:
    """The driver's answers to errors."""

    job: Job
    course: Course
    collectors: Collectors
    fleet: Fleet
    board: Board
    breaker: Breaker = field(init=False)
    undecided: list[_Undecided] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.breaker = Breaker(self.job.config.engine.same_failures)

    # -- what is recorded -------------------------------------------------------------

    def record(self, report: Report) -> None:
        """Have the collector keep it; failures for one reason that repeats are held back."""
        for one in self.breaker.sort(report):
            self.collectors.record(one)

    def release(self) -> None:
        """A shard has landed, or the run is at its end: record what was held back."""
        for report in self.breaker.release():
            self.collectors.record(report)

    # -- what went wrong --------------------------------------------------------------

    def index_error(self, what: Indexing, error: RayError) -> None:
        """Reading a video's packets failed."""
        dead = self._lost(error)
        if dead is not None and what.lane.is_first(what):
            self._spare(what)
        elif dead is not None:
            what.spared = True
        elif tells_of_lost_node(error):
            what.spared = True
            self.fleet.look_soon()

        def innocent() -> None:
            what.spared = True
            self._judge_index(what, error)

        def guilty() -> None:
            self._judge_index(what, error)

        death = _Death(dead, what.process) if dead is not None else None
        self._put_down(death, guilty, innocent)

    def _judge_index(self, what: Indexing, error: RayError) -> None:
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
            self.record(self.course.unreadable(source, failure))
        else:
            self.course.stats.retries += 1
            self.board.to_index.append((what.candidate, strikes))

    def shard_error(self, result: Result, error: RayError) -> None:
        """An attempt at a shard failed: this came instead of a result."""
        stream, models = result.stream, result.models
        if stream.failed or stream.landed:
            return  # Another result of the same attempt has told already.
        link = self.collectors.link_of(error)
        if link is not None:
            self.collector_died(link, error)
            return
        cause = explain(error, "decode" if self.fleet.sizing.placement == "fused" else "analyze")
        if tells_of_lost_node(error) and stream.work.excused < MOST_EXCUSED:
            self.fleet.look_soon()
            self._put_off(stream)
            return
        dead = self._lost(error)
        if cause.device_lost:
            # Nothing more can be computed there: whatever it is given would fail as well.
            dead = models or stream.lane
            self.fleet.roster.restart(dead)
        death = None
        if models is not None and dead is models:
            cause = cause.said(models.verdict)
            death = _Death(models, result.process)
        elif dead is stream.lane:
            death = _Death(stream.lane, stream.process)
            if stream in stream.lane.queue and not stream.lane.is_first(stream):
                self._blame_first(stream.lane, cause)
            elif stream in stream.lane.queue:
                self._spare(stream)
        self._strike(stream, cause.said(stream.verdict), result.number, death)

    def call_error(self, call: Result, models: Models, error: RayError) -> None:
        """An analyzer has not come to its end with a call. Where it died over it, or has to be
        ended, it was at work on the first that it had."""
        had = [one for one in models.calls if one.process == call.process]
        is_dead = self._lost(error) is models
        if is_dead:
            call = had[0]
        if is_dead or explain(error, "analyze").device_lost:
            for other in had:
                if other.stream is not call.stream:
                    self._put_off(other.stream)
        self.shard_error(call, error)

    def _blame_first(self, lane: Lane, cause: Cause) -> None:
        """The worker died over what it had first, whatever told of it."""
        first = lane.queue[0]
        self._spare(first)
        if isinstance(first, Stream):
            number = first.drawn
            self._strike(first, cause.said(first.verdict), number, _Death(lane, first.process))

    def shard_failed(self, stream: Stream, cause: Cause, number: int) -> None:
        """The collector has found that an attempt does not add up."""
        self._strike(stream, cause, number, None)

    def collector_died(self, link: CollectorLink, error: RayError | None = None) -> None:
        """Wait for it to be back, and redo the shards that it did not have whole."""
        for stream in [*self.board.streams]:
            if self.collectors.of(stream.work.task.index.video_id) is link:
                self._put_off(stream)
        self.course.stats.note("the collector died and was replaced; nothing was lost")
        link.revive(error)

    def departed(self, member: Member) -> None:
        """Its node has gone, or it was let go: what it had is redone elsewhere, at no cost."""
        items = [*member.queue] if isinstance(member, Lane) else []
        for item in items:
            if isinstance(item, Stream):
                item.done = True  # Nothing more can be drawn.
                if item.failed and item in self.board.streams:
                    self.board.streams.remove(item)
                self._put_off(item)
            else:
                item.spared = True
        for call in member.calls if isinstance(member, Models) else []:
            self._put_off(call.stream)

    def decide(self) -> None:
        """Judge those of whom it is known by now whether their node has survived."""
        cases, self.undecided = self.undecided, []
        for case in cases:
            now = case.death.member.process
            if case.death.member.gone or (now and now == case.death.process):
                # It died with its node, or not at all: a reply was lost.
                case.innocent()
            elif now or time.monotonic() - case.since > JUDGE_S:
                case.guilty()
            else:
                self.undecided.append(case)

    # -- what is done about it --------------------------------------------------------

    def _lost(self, error: RayError) -> Member | None:
        return self.fleet.roster.lost(died(error))

    def _put_down(
        self, death: _Death | None, guilty: Callable[[], None], innocent: Callable[[], None]
    ) -> None:
        """Do the one or the other: at once where no death of a process is to be judged."""
        if death is None or death.member.killed:
            guilty()
        else:
            self.fleet.look_soon()
            self.undecided.append(_Undecided(death, time.monotonic(), guilty, innocent))

    def _strike(self, stream: Stream, cause: Cause, number: int, death: _Death | None) -> None:
        """End an attempt that failed at its clip `number`, and decide what comes next."""
        if stream.failed:
            return
        self._end(stream)
        work = stream.work

        def guilty() -> None:
            self._judge(work, cause, number)

        def innocent() -> None:
            if work.excused < MOST_EXCUSED:
                self._again(work.put_off())
            else:
                guilty()

        self._put_down(death, guilty, innocent)

    def _judge(self, work: Work, cause: Cause, number: int) -> None:
        retry = work.after(cause, number, self.job.analyses[0].fingerprint)
        if retry is None:
            attempts = max(1, work.trials.failed)
            self.record(self.course.shard_failed(work.task, cause, attempts))
        else:
            self._again(retry)

    def _spare(self, killer: Stream | Indexing) -> None:
        """What was queued behind something that killed the worker is not to blame for it. The
        process in its place may have more by now, which goes on."""
        for item in [*killer.lane.queue]:
            if item is killer or item.process != killer.process:
                continue
            if isinstance(item, Stream):
                self._put_off(item)
            else:
                item.spared = True

    def _put_off(self, stream: Stream) -> None:
        """End an attempt that is not to blame for its end."""
        if not stream.failed:
            self._end(stream)
            self._again(stream.work.put_off())

    def _again(self, work: Work) -> None:
        self.course.stats.retries += 1
        self.board.ready.append(work)

    def _end(self, stream: Stream) -> None:
        stream.failed = True
        if stream.done:
            self.board.streams.remove(stream)
        self.collectors.discard(stream.work)
