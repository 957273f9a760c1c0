"""The driver's loop over Ray references: keeps actors busy and bytes in flight under a cap.

Each worker has a shard to work on and one to go on with; streams are drawn as the cap and the
analyzers allow (Ray's generator backpressure stops a decoder that is not drawn from), and every
reference goes on to the next actor without being looked at. Only acknowledgements come back.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from pipeline.engine.collector_link import CollectorLink
from pipeline.engine.job import Job
from pipeline.engine.lanes import Board, Indexing, Lane, Stream, Work
from pipeline.engine.metrics import RunMetrics
from pipeline.engine.recovery import Recovery
from pipeline.engine.roster import Models, Roster
from pipeline.engine.sizing import Sizing, clip_bytes
from pipeline.engine.stats import Ack
from pipeline.engine.tracker import Tracker
from pipeline.engine.watchdog import Watchdog
from pipeline.errors import RunAborted
from pipeline.records import ShardTask, Source
from pipeline.resume import Candidate

READY_SHARDS = 3
"""Shards per worker to have planned ahead: videos are indexed while others are decoded, but no
further than this, so that a corpus is not indexed whole before its first row lands."""
AHEAD_FUSED = 4
AHEAD_SPLIT = 2
"""Items of a stream that a worker makes ahead of being drawn: results are small, clips are not."""
CLIPS_PER_ANALYZER = 2
"""One that is worked on, one whose arguments Ray fetches meanwhile."""
ACKS_AHEAD = 32
"""Results sent to the collector and not yet acknowledged, above which no more are drawn."""
TICK_S = 2.0


@dataclass(eq=False)
class _Adding:
    """A result with the collector."""

    stream: Stream
    number: int
    """How many of the attempt's clips came before it."""
    models: Models | None = None
    """Who analyzed it, where that was another than who decoded it."""


@dataclass(eq=False)
class _Analyzing:
    """A clip with an analyzer."""

    stream: Stream
    number: int
    models: Models


@dataclass
class Driver:
    """State of one run; `work` returns when everything due has been reported to the tracker."""

    job: Job
    tracker: Tracker
    sizing: Sizing
    collector: CollectorLink
    roster: Roster
    metrics: RunMetrics
    _board: Board = field(default_factory=Board)
    _pending: dict[Any, Any] = field(default_factory=dict)
    """Reference -> what it is: an Indexing, an _Analyzing or an _Adding."""
    _last_tick: float = 0.0

    def __post_init__(self) -> None:
        self._recovery = Recovery(
            self.job, self.tracker, self.collector, self.roster, self._board, self._split
        )
        self._watchdog = Watchdog(self.job.config.engine, self.roster, self._can_draw)

    @property
    def _split(self) -> bool:
        return bool(self.roster.models)

    @property
    def _lanes(self) -> list[Lane]:
        return self.roster.lanes

    def work(self, first: Candidate) -> None:
        """Work `first` and all that is due after it."""
        # What the collector cannot open ends the run before any video is touched, and so does a
        # model that cannot be loaded.
        self.collector.await_ready()
        self.roster.await_enough(self.tracker.stats.say, self._watchdog.look)
        self._take(first)
        self.tracker.stats.first_work_at = self._last_tick = time.perf_counter()
        board = self._board
        while True:
            self._refill()
            self._leave_rest()
            self._dispatch()
            if not board.streams and not self._pending:
                if not (board.ready or board.to_index):
                    if self.tracker.exhausted:
                        break
                    if self.tracker.waiting:
                        self._wait_for_others()
                if not self.roster.absent:
                    continue  # What was taken in had nothing to do in it.
            self._wait()
            self._tick()
        self._recovery.release()

    def _wait_for_others(self) -> None:
        """Nothing to do until another run has ended, which may wait for this one as well."""
        self._recovery.release()
        self.collector.flush()
        if self.tracker.lease is not None:
            self.tracker.lease.release()
        time.sleep(self.tracker.POLL_S)

    def _tick(self) -> None:
        self._watchdog.look()
        if time.perf_counter() - self._last_tick > TICK_S:
            if not self.collector.settle():
                self._recovery.collector_died()
            self.collector.tick()
            self._last_tick = time.perf_counter()

    def close(self) -> None:
        """Commit what is whole, then let the actors go. Raises RunAborted where it cannot be."""
        try:
            stats = self.tracker.stats
            stats.commits, stats.commit_s = self.collector.close()
        finally:
            workers = [lane.worker for lane in self.roster.lanes]
            for actor in [*workers, *(models.actor for models in self.roster.models)]:
                ray.kill(actor)
            self.collector.kill()

    # -- what comes in ----------------------------------------------------------------

    def _refill(self) -> None:
        """Take candidates until enough shards are planned ahead, or none are left."""
        while (
            not self.tracker.exhausted
            and len(self._board.ready) < READY_SHARDS * len(self._lanes)
            and len(self._board.to_index) < len(self._lanes)
        ):
            candidate = self.tracker.next_due()
            if candidate is None:
                return
            self._take(candidate)

    def _take(self, candidate: Candidate) -> None:
        if candidate.failure is not None:
            self._recovery.record(self.tracker.unreadable(candidate.source, candidate.failure))
            return
        index = self.tracker.known_index(candidate)
        if index is None:
            self._board.to_index.append((candidate, 0))
        else:
            self._begin(candidate.source, index)

    def _begin(self, source: Source, index: Any) -> None:
        if self.tracker.budget.is_up:
            return  # It has come too late.
        tasks, report = self.tracker.begin(source, index)
        self._recovery.record(report)
        self._board.ready.extend(Work.of(task, self.job.config.engine.attempts) for task in tasks)

    def _leave_rest(self) -> None:
        """Once the budget is up, keep only what was begun, and has to be tried again."""
        if not self.tracker.budget.is_up:
            return
        board = self._board
        for work in board.ready:
            if not work.begun:
                self.tracker.leave(work.task)
        board.ready = deque(work for work in board.ready if work.begun)
        board.to_index = deque(item for item in board.to_index if item[1] > 0)

    # -- what goes out ----------------------------------------------------------------

    def _dispatch(self) -> None:
        """Give work to the lanes, the emptiest first."""
        while True:
            short = len(self._board.ready) < len(self._lanes)
            if not ((short and self._index_next()) or self._start_next() or self._index_next()):
                return

    def _lane(self, suspect: bool) -> Lane | None:
        lanes = [lane for lane in self._lanes if lane.takes(suspect)]
        return min(lanes, key=lambda lane: len(lane.queue), default=None)

    def _index_next(self) -> bool:
        to_index = self._board.to_index
        if not to_index or (self.tracker.budget.is_up and not to_index[0][1]):
            return False
        lane = self._lane(to_index[0][1] > 0)
        if lane is None:
            return False
        candidate, strikes = to_index.popleft()
        indexing = Indexing(candidate, lane, strikes)
        self._pending[lane.worker.index.remote(candidate.source)] = indexing
        lane.queue.append(indexing)
        return True

    def _start_next(self) -> bool:
        ready = self._board.ready
        if not ready or (self.tracker.budget.is_up and not ready[0].begun):
            return False
        lane = self._lane(ready[0].suspect)
        if lane is None or not self._has_room(lane, ready[0].task):
            return False
        if lane.queue and len(ready) <= len(self._lanes):
            return False  # The last shards wait for whichever worker is free first.
        self._start(lane, ready.popleft())
        return True

    def _has_room(self, lane: Lane, task: ShardTask) -> bool:
        """Whether another shard fits under the cap; one always does, or nothing would go on."""
        if not self._board.streams:
            return True
        one = self._clip_bytes(task)
        needed = one * (AHEAD_SPLIT + 2) if self._split else max(0, one - _largest_clip(lane))
        return self._in_flight() + needed <= self.sizing.in_flight_bytes

    def _clip_bytes(self, task: ShardTask) -> int:
        clip = self.job.config.clip
        return clip_bytes(task.index.width, task.index.height, clip.length, clip.step)

    def _in_flight(self) -> int:
        stats = self.tracker.stats
        if self._split:
            stats.in_flight_bytes = sum(stream.held_bytes for stream in self._board.streams)
        else:
            # Pixels never leave the worker, which holds the one clip that it is filling.
            stats.in_flight_bytes = sum(_largest_clip(lane) for lane in self._lanes)
        stats.peak_in_flight_bytes = max(stats.peak_in_flight_bytes, stats.in_flight_bytes)
        return stats.in_flight_bytes

    def _start(self, lane: Lane, work: Work) -> None:
        if not work.begun:
            self.tracker.begins(work.task)
        self.collector.begin(work.task, work.attempt)
        ahead = AHEAD_SPLIT if self._split else AHEAD_FUSED
        generator = lane.worker.stream.options(
            num_returns="streaming", _generator_backpressure_num_objects=ahead
        ).remote(work.task, work.attempt)
        stream = Stream(work, lane, generator, self._clip_bytes(work.task), AHEAD_SPLIT + 1)
        lane.queue.append(stream)
        self._board.streams.append(stream)
        self._in_flight()

    # -- what comes back --------------------------------------------------------------

    def _wait(self) -> None:
        """Wait for anything that can be acted on now, and act on it."""
        drawable = {s.generator: s for s in self._board.streams if self._can_draw(s)}
        waiting = [*self._pending, *self.roster.absent, *drawable]
        if not waiting:
            raise RunAborted("nothing is under way, though work is left; please report this")
        ready, _ = ray.wait(waiting, num_returns=1, timeout=TICK_S, fetch_local=False)
        if ready and len(waiting) > 1:
            # The first wait blocks; this one collects whatever else is there by now.
            ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0, fetch_local=False)
        for item in ready:
            if item in drawable:
                if self._can_draw(drawable[item]):
                    self._draw(drawable[item])
                continue
            if item in self.roster.absent:
                self.roster.answered(item)
                continue
            what = self._pending.pop(item)
            if isinstance(what, Indexing):
                self._indexed(what, item)
            elif isinstance(what, _Analyzing):
                what.models.leave(what)
                what.stream.in_flight -= 1
                self._collect(_Adding(what.stream, what.number, what.models), item)
            else:
                self._acknowledged(what, item)

    def _can_draw(self, stream: Stream) -> bool:
        if stream.done or not stream.lane.is_first(stream):
            # In the worker's order: a shard is whole before anything comes of the next, so that
            # a crash costs one that is not for each worker.
            return False
        if stream.failed:
            return True
        if len(self._pending) > ACKS_AHEAD:
            return False
        if not self._split:
            return True
        if self._least_busy(stream.work) is None:
            return False
        more = stream.clip_bytes if stream.in_flight else 0
        return self._in_flight() + more <= self.sizing.in_flight_bytes or not more

    def _least_busy(self, work: Work) -> Models | None:
        """Who can be sent a clip of `work`. One of a shard that failed before is sent to nobody
        who has another: if it kills, it is known what did."""
        most = 1 if work.suspect else CLIPS_PER_ANALYZER
        free = [m for m in self.roster.models if m.present and m.busy < most and not m.on_suspect]
        return min(free, key=lambda models: models.busy, default=None)

    def _draw(self, stream: Stream) -> None:
        """Take the next reference of a stream and send it on."""
        try:
            ref = next(stream.generator)
        except StopIteration:
            stream.done = True
            stream.lane.leave(stream)
            if stream.failed:
                self._board.streams.remove(stream)
            return
        stream.came()
        if stream.failed:
            return
        number = stream.drawn
        stream.drawn += 1
        is_clip = number < len(stream.work.task.shard.clips)
        models = self._least_busy(stream.work) if self._split and is_clip else None
        if models is not None:
            what = _Analyzing(stream, number, models)
            models.calls.append(what)
            stream.in_flight += 1
            out = models.actor.analyze.remote(ref, stream.work.task.analyses)
            self._pending[out] = what
        else:
            self._collect(_Adding(stream, number), ref)

    def _collect(self, what: _Adding, ref: Any) -> None:
        if not what.stream.failed:
            self._pending[self.collector.add(ref)] = what

    def _indexed(self, what: Indexing, ref: Any) -> None:
        try:
            index = ray.get(ref)
        except RayError as error:
            self._recovery.index_error(what, error)
            return
        finally:
            what.lane.leave(what)
        self.collector.index(index)
        self._begin(what.candidate.source, index)

    def _acknowledged(self, what: _Adding, ref: Any) -> None:
        stream = what.stream
        try:
            ack: Ack = ray.get(ref)
        except RayError as error:
            self._recovery.shard_error(stream, error, what.number, what.models)
            return
        if ack.unknown and not stream.failed:
            self._recovery.collector_died()
            return
        if ack.ended is not None:
            self.collector.heard()
        self.tracker.acknowledge(ack)
        self.metrics.saw(ack, self.tracker.stats)
        if ack.ended is not None and not stream.failed:
            self._board.streams.remove(stream)
            # All its results are in: the worker has returned from it, or is about to.
            stream.done = True
            stream.lane.leave(stream)
            self._recovery.release()
            self._recovery.record(self.tracker.shard_done(stream.work.task, ack.ended))


def _largest_clip(lane: Lane) -> int:
    return max((item.clip_bytes for item in lane.queue if isinstance(item, Stream)), default=0)
