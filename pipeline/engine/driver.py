"""The driver's loop over Ray references: keeps actors busy and bytes in flight under a cap.

Each worker has a shard to work on and one to go on with; streams are drawn as the cap and the
analyzers allow (Ray's generator backpressure stops a decoder that is not drawn from), and every
reference goes on to the next actor without being looked at. Only acknowledgements come back.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from pipeline.engine.cause import Cause
from pipeline.engine.collector_link import CollectorLink
from pipeline.engine.collectors import Collectors
from pipeline.engine.course import Course
from pipeline.engine.fleet import Fleet
from pipeline.engine.flow import Flow
from pipeline.engine.handout import Handout
from pipeline.engine.intake import Intake
from pipeline.engine.job import Job
from pipeline.engine.lanes import Board, Indexing, Result, Stream
from pipeline.engine.metrics import RunMetrics
from pipeline.engine.outbox import Bundle, Outbox
from pipeline.engine.recovery import Recovery
from pipeline.engine.stats import Ack
from pipeline.engine.watchdog import Watchdog
from pipeline.errors import RunAborted, VideoError
from pipeline.resume import Candidate

TICK_S = 2.0
LOOK_S = 0.25
"""How often clocks are looked at: more often would be noticed by nobody but the CPU."""
GATHER_S = 0.002
"""After a pause, how long to wait for what comes next after the first."""
IDLE_S = 0.2
"""Between looks while there is nobody to work."""
STALL_S = 60.0


@dataclass
class Driver:
    """State of one run; `work` returns when everything due has been reported to its course."""

    job: Job
    course: Course
    collectors: Collectors
    fleet: Fleet
    metrics: RunMetrics
    _board: Board = field(default_factory=Board)
    _pending: dict[Any, Any] = field(default_factory=dict)
    """Reference -> what it is: an Indexing, a Result or a Bundle."""
    _last_tick: float = 0.0
    _last_look: float = 0.0
    _stalled_at: float | None = None
    """Since when nothing has been under way, though there is somebody to work."""
    _said_to_wait: bool = False

    def __post_init__(self) -> None:
        board, roster = self._board, self.fleet.roster
        self._roster = roster
        self._recovery = Recovery(self.job, self.course, self.collectors, self.fleet, board)
        attempts = self.job.config.engine.attempts
        self._intake = Intake(self.course, board, roster, self._recovery, attempts)
        self._flow = Flow(board, self.fleet, self.course.stats)
        self._handout = Handout(
            board, roster, self._flow, self.collectors, self._pending, self.course.budget
        )
        self._outbox = Outbox(self.collectors, self._pending)
        self._watchdog = Watchdog(self.job.config.engine, roster, self._can_draw)

    def work(self, first: Candidate) -> None:
        """Work `first` and all that is due after it."""
        # What the collector cannot open ends the run before any video is touched, and so does a
        # model that cannot be loaded.
        self.collectors.await_ready()
        self.fleet.await_enough(self.course.stats.say, self._watchdog.look)
        self._intake.take(first)
        stats = self.course.stats
        stats.first_work_at = self._last_tick = time.perf_counter()
        stats.there(*self._roster.counts)
        board = self._board
        while True:
            self._intake.refill()
            self._intake.leave_rest()
            self._flow.look()
            self._handout.work()
            left = self._outbox.send()
            under_way = self._pending or self._recovery.undecided or left is not None
            if board.is_empty and not under_way:
                if self.course.exhausted:
                    break
                if self.course.waiting:
                    self._wait_for_others()
                continue  # What was taken in had nothing to do in it.
            self._wait(TICK_S if left is None else left)
            self._tick()
        self._recovery.release()

    def _wait_for_others(self) -> None:
        """Nothing to do until another run has ended, which may wait for this one as well."""
        self._recovery.release()
        self.collectors.flush()
        if self.course.lease is not None:
            self.course.lease.release()
        time.sleep(self.course.POLL_S)
        self._tick()

    def _tick(self) -> None:
        """What is to be done now and then, however busy the driver is."""
        if self._recovery.undecided:
            self._recovery.decide()
        now = time.perf_counter()
        if now - self._last_look > LOOK_S:
            self._last_look = now
            self._watchdog.look()
        if self.fleet.is_due:
            self._tend()
        if now - self._last_tick > TICK_S:
            self._last_tick = now
            self.metrics.push()
            for link in self.collectors.links:
                if not link.settle():
                    self._recovery.collector_died(link)
                link.tick()

    def _tend(self) -> None:
        """Nodes come and go."""
        for member in self.fleet.look():
            self._recovery.departed(member)
        self.fleet.hire(more=bool(self._board.ready) or not self.course.exhausted)
        stats = self.course.stats
        stats.there(*self._roster.counts)
        if not self._roster.enough:
            stats.say(self.fleet.waits_for())
        elif self._said_to_wait:
            stats.say("")
        self._said_to_wait = not self._roster.enough

    def close(self) -> None:
        """Commit what is whole, then let the actors go. Raises RunAborted where it cannot be."""
        stats = self.course.stats
        stats.there(*self._roster.counts)
        self.metrics.push()
        for node, why in self._roster.given_up.items():
            stats.note(f"node {node[:12]} was not used: {why}")
        try:
            stats.committed(*self.collectors.close())
        finally:
            self.fleet.close()
            self.collectors.kill()

    # -- what comes back --------------------------------------------------------------

    def _wait(self, most_s: float) -> None:
        """Wait for anything that can be acted on now, and act on it."""
        drawable = {s.generator: s for s in self._board.streams if self._can_draw(s)}
        waiting = [*self._pending, *self._roster.absent, *drawable]
        if not waiting:
            self._idle(most_s)
            return
        self._stalled_at = None
        began = time.perf_counter()
        ready, _ = ray.wait(waiting, num_returns=1, timeout=most_s, fetch_local=False)
        if ready and len(waiting) > 1:
            if time.perf_counter() - began > GATHER_S:
                time.sleep(GATHER_S)  # There is time: what comes together is cheaper.
            ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0, fetch_local=False)
        drawn = []
        for item in ready:
            if item in drawable:
                drawn.append(drawable[item])
            elif item in self._roster.absent:
                self._roster.answered(item)
            else:
                self._came(self._pending.pop(item), item)
        self._flow.look()
        for stream in sorted(drawn, key=self._flow.is_far):
            if self._can_draw(stream):
                self._draw(stream)

    def _idle(self, most_s: float) -> None:
        """There is work, and nobody to do it; a node that joins brings somebody."""
        now = time.perf_counter()
        self._stalled_at = self._stalled_at or now
        if not self._roster.enough or most_s < TICK_S:
            self._stalled_at = None
        elif now - self._stalled_at > STALL_S:
            raise RunAborted("nothing is under way, though work is left; please report this")
        time.sleep(min(IDLE_S, most_s))

    def _came(self, what: Any, ref: Any) -> None:
        if isinstance(what, Indexing):
            self._indexed(what, ref)
        elif isinstance(what, Result):
            self._analyzed(what, ref)
        else:
            self._answered(what, ref)

    def _can_draw(self, stream: Stream) -> bool:
        if stream.done or not stream.lane.is_first(stream):
            # In the worker's order: a shard is whole before anything comes of the next, so that
            # a crash costs one that is not for each worker.
            return False
        if stream.failed:
            return True
        return not self._outbox.is_full and self._flow.lets_draw(stream)

    def _draw(self, stream: Stream) -> None:
        """Take the next reference of a stream and send it on."""
        try:
            ref = next(stream.generator)
        except StopIteration:
            self._ended(stream)
            return
        stream.came()
        if stream.failed:
            return
        number = stream.drawn
        to_analyze = self._flow.split and stream.has_clips_next
        stream.drawn += 1
        models = self._flow.send(stream) if to_analyze else None
        if models is not None:
            parcel, done = models.actor.analyze.remote(ref, stream.work.task.analyses)
            result = Result(stream, number, parcel, models, models.process)
            models.calls.append(result)
            self._flow.sent(models)
            stream.in_flight += 1
            self._pending[done] = result
        else:
            self._collect(Result(stream, number, ref))

    def _ended(self, stream: Stream) -> None:
        """The worker has gone on, or has died: heard here, and not only from the collector, which
        may have much before it. Until then the worker seemed to be free."""
        stream.done = True
        if stream.failed:
            self._board.streams.remove(stream)
        else:
            try:
                ray.get(stream.generator.completed())
            except RayError as error:
                self._recovery.shard_error(Result(stream, max(0, stream.drawn - 1), None), error)
        stream.lane.leave(stream)

    def _analyzed(self, result: Result, done: Any) -> None:
        models = result.models
        assert models is not None
        try:
            ray.get(done)
        except RayError as error:
            self._recovery.call_error(result, models, error)
        else:
            self._collect(result)
        models.leave(result)
        result.stream.in_flight -= 1

    def _collect(self, result: Result) -> None:
        if not result.stream.failed:
            self._outbox.put(result)

    def _indexed(self, what: Indexing, ref: Any) -> None:
        try:
            index = ray.get(ref)
        except RayError as error:
            self._recovery.index_error(what, error)
            return
        finally:
            what.lane.leave(what)
        self.collectors.index(index)
        self._intake.begin(what.candidate.source, index)

    def _answered(self, bundle: Bundle, ref: Any) -> None:
        try:
            answers = ray.get(ref)
        except RayError as error:
            self._not_taken(bundle, error)
            return
        self._outbox.answered(bundle)
        for result, answer in zip(bundle.results, answers, strict=True):
            if isinstance(answer, VideoError):
                cause = Cause.of(answer)
                self._recovery.shard_failed(result.stream, cause, result.number)
            else:
                self._acknowledged(result.stream, bundle.link, answer)

    def _not_taken(self, bundle: Bundle, error: RayError) -> None:
        """What a result was to be is an error, or the collector has died."""
        if len(bundle.results) > 1 and not bundle.link.is_of(error):
            self._outbox.split(bundle)
            return
        self._outbox.answered(bundle)
        for result in bundle.results:
            self._recovery.shard_error(result, error)

    def _acknowledged(self, stream: Stream, link: CollectorLink, ack: Ack) -> None:
        if ack.unknown and not stream.failed:
            self._recovery.collector_died(link)
            return
        if ack.ended is not None:
            link.heard()
        self.course.acknowledge(ack)
        self.metrics.saw(ack, self.course.stats)
        if ack.ended is not None and not stream.failed:
            self._board.streams.remove(stream)
            # All its results are in: the worker has returned from it, or is about to.
            stream.done = stream.landed = True
            stream.lane.leave(stream)
            self._recovery.release()
            self._recovery.record(self.course.shard_done(stream.work.task, ack.ended))
