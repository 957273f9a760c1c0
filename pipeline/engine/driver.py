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
from ray.exceptions import RayActorError, RayError

from pipeline.engine.job import Job
from pipeline.engine.lanes import Indexing, Lane, Stream, Work
from pipeline.engine.metrics import RunMetrics
from pipeline.engine.ray_errors import died, explain, get, last_line, started
from pipeline.engine.roster import Models, Roster, id_of
from pipeline.engine.sizing import Sizing, clip_bytes
from pipeline.engine.tracker import Ack, Report, Tracker
from pipeline.errors import RunAborted
from pipeline.records import Failure, ShardTask, Source
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
class _Analyzing:
    stream: Stream
    models: Models


@dataclass
class Driver:
    """State of one run; `work` returns when everything due has been reported to the tracker."""

    job: Job
    tracker: Tracker
    sizing: Sizing
    collector: Any
    roster: Roster
    metrics: RunMetrics
    _ready: deque[Work] = field(default_factory=deque)
    _to_index: deque[tuple[Candidate, int]] = field(default_factory=deque)
    """Videos without an index, with the tries that they have cost."""
    _streams: list[Stream] = field(default_factory=list)
    """Shards whose last word has not come yet."""
    _pending: dict[Any, Any] = field(default_factory=dict)
    """Reference -> what it is: an Indexing, an _Analyzing, or the Stream it acknowledges."""
    _exhausted: bool = False

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
        started(self.collector.ready.remote(), "the collector is gone")
        self.roster.await_enough(self.tracker.stats.say)
        self._take(first)
        self.tracker.stats.first_work_at = time.perf_counter()
        last_tick = time.perf_counter()
        while True:
            self._refill()
            self._dispatch()
            if not self._streams and not self._pending:
                if not (self._ready or self._to_index) and self._exhausted:
                    return
                if not self.roster.absent:
                    continue  # What was taken in had nothing to do in it.
            self._wait()
            now = time.perf_counter()
            if now - last_tick > TICK_S:
                self.collector.tick.remote()
                last_tick = now

    def close(self) -> None:
        """Commit what is whole, then let the actors go. Raises RunAborted where it cannot be."""
        try:
            stats = self.tracker.stats
            stats.commits, stats.commit_s = get(self.collector.flush.remote())
        except RayActorError as error:
            raise RunAborted(f"the collector is gone: {last_line(error)}") from None
        finally:
            workers = [lane.worker for lane in self.roster.lanes]
            for actor in [*workers, *(models.actor for models in self.roster.models)]:
                ray.kill(actor)
            ray.kill(self.collector)

    # -- what comes in ----------------------------------------------------------------

    def _refill(self) -> None:
        """Take candidates until enough shards are planned ahead, or none are left."""
        while (
            not self._exhausted
            and len(self._ready) < READY_SHARDS * len(self._lanes)
            and len(self._to_index) < len(self._lanes)
        ):
            candidate = next(self.tracker.due(), None)
            if candidate is None:
                self._exhausted = True
            else:
                self._take(candidate)

    def _take(self, candidate: Candidate) -> None:
        if candidate.failure is not None:
            self._record(self.tracker.unreadable(candidate.source, candidate.failure))
            return
        index = self.tracker.known_index(candidate)
        if index is None:
            self._to_index.append((candidate, 0))
        else:
            self._begin(candidate.source, index)

    def _begin(self, source: Source, index: Any) -> None:
        tasks, report = self.tracker.begin(source, index)
        self._record(report)
        self._ready.extend(Work(task) for task in tasks)

    def _record(self, report: Report) -> None:
        if report.failures or report.outcomes:
            self.collector.record.remote(report)

    # -- what goes out ----------------------------------------------------------------

    def _dispatch(self) -> None:
        """Give work to the lanes, the emptiest first."""
        while True:
            short = len(self._ready) < len(self._lanes)
            if not ((short and self._index_next()) or self._start_next() or self._index_next()):
                return

    def _lane(self, work: Work | None) -> Lane | None:
        lanes = [lane for lane in self._lanes if lane.takes(work)]
        return min(lanes, key=lambda lane: len(lane.queue), default=None)

    def _index_next(self) -> bool:
        lane = self._lane(None)
        if lane is None or not self._to_index:
            return False
        self._index(lane, *self._to_index.popleft())
        return True

    def _start_next(self) -> bool:
        if not self._ready:
            return False
        lane = self._lane(self._ready[0])
        if lane is None or not self._has_room(lane, self._ready[0].task):
            return False
        if lane.queue and len(self._ready) <= len(self._lanes):
            return False  # The last shards wait for whichever worker is free first.
        self._start(lane, self._ready.popleft())
        return True

    def _index(self, lane: Lane, candidate: Candidate, strikes: int) -> None:
        indexing = Indexing(candidate, lane, strikes)
        self._pending[lane.worker.index.remote(candidate.source)] = indexing
        lane.queue.append(indexing)

    def _has_room(self, lane: Lane, task: ShardTask) -> bool:
        """Whether another shard fits under the cap; one always does, or nothing would go on."""
        if not self._streams:
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
            stats.in_flight_bytes = sum(stream.held_bytes for stream in self._streams)
        else:
            # Pixels never leave the worker, which holds the one clip that it is filling.
            stats.in_flight_bytes = sum(_largest_clip(lane) for lane in self._lanes)
        stats.peak_in_flight_bytes = max(stats.peak_in_flight_bytes, stats.in_flight_bytes)
        return stats.in_flight_bytes

    def _start(self, lane: Lane, work: Work) -> None:
        self.collector.begin.remote(work.task, work.attempt)
        ahead = AHEAD_SPLIT if self._split else AHEAD_FUSED
        generator = lane.worker.stream.options(
            num_returns="streaming", _generator_backpressure_num_objects=ahead
        ).remote(work.task, work.attempt)
        stream = Stream(work, lane, generator, self._clip_bytes(work.task), AHEAD_SPLIT + 1)
        lane.queue.append(stream)
        self._streams.append(stream)
        self._in_flight()

    # -- what comes back --------------------------------------------------------------

    def _wait(self) -> None:
        """Wait for anything that can be acted on now, and act on it."""
        drawable = {s.generator: s for s in self._streams if self._can_draw(s)}
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
                self._analyzed(what, item)
            else:
                self._acknowledged(what, item)

    def _can_draw(self, stream: Stream) -> bool:
        if stream.done:
            return False
        if stream.failed:
            return True
        if len(self._pending) > ACKS_AHEAD:
            return False
        if not self._split:
            return True
        models = self._least_busy()
        if models is None or models.busy >= CLIPS_PER_ANALYZER:
            return False
        more = stream.clip_bytes if stream.in_flight else 0
        return self._in_flight() + more <= self.sizing.in_flight_bytes or not more

    def _least_busy(self) -> Models | None:
        present = [models for models in self.roster.models if models.present]
        return min(present, key=lambda models: models.busy, default=None)

    def _draw(self, stream: Stream) -> None:
        """Take the next reference of a stream and send it on."""
        try:
            ref = next(stream.generator)
        except StopIteration:
            self._ended(stream)
            if stream.failed:
                self._streams.remove(stream)
            return
        if stream.failed:
            return
        is_clip = stream.drawn < len(stream.work.task.shard.clips)
        stream.drawn += 1
        models = self._least_busy()
        if models is not None and is_clip:
            models.busy += 1
            stream.in_flight += 1
            out = models.actor.analyze.remote(ref, stream.work.task.analyses)
            self._pending[out] = _Analyzing(stream, models)
        else:
            self._collect(stream, ref)

    @staticmethod
    def _ended(stream: Stream) -> None:
        stream.done = True
        stream.lane.leave(stream)

    def _collect(self, stream: Stream, ref: Any) -> None:
        if not stream.failed:
            self._pending[self.collector.add.remote(ref)] = stream

    def _analyzed(self, what: _Analyzing, ref: Any) -> None:
        what.models.busy -= 1
        what.stream.in_flight -= 1
        self._collect(what.stream, ref)

    def _indexed(self, what: Indexing, ref: Any) -> None:
        source = what.candidate.source
        try:
            index = ray.get(ref)
        except RayError as error:
            self._index_error(what, error)
            return
        finally:
            what.lane.leave(what)
        self.collector.index.remote(index)
        self._begin(source, index)

    def _index_error(self, what: Indexing, error: RayError) -> None:
        dead = died(error)
        self.roster.lost(dead)
        if dead and not what.lane.is_first(what):
            what.spared = True
        strikes = what.strikes + (not what.spared)
        source = what.candidate.source
        stage, reason, final = explain(error, "index")
        if final or strikes >= self.job.config.engine.attempts:
            failure = Failure(source.uri, stage, reason, stamp=source.stamp, attempts=strikes)
            self._record(self.tracker.unreadable(source, failure))
        else:
            self.tracker.stats.retries += 1
            self._to_index.append((what.candidate, strikes))

    def _acknowledged(self, stream: Stream, ref: Any) -> None:
        task = stream.work.task
        try:
            ack: Ack = ray.get(ref)
        except RayError as error:
            self._shard_error(stream, error)
            return
        self.tracker.acknowledge(ack)
        self.metrics.saw(ack, self.tracker.stats)
        if ack.ended is not None and not stream.failed:
            self._streams.remove(stream)
            # All its results are in: the worker has returned from it, or is about to.
            self._ended(stream)
            self._record(self.tracker.shard_done(task, ack.ended))

    def _shard_error(self, stream: Stream, error: RayError) -> None:
        if stream.failed:
            return  # Another result of the same attempt has told already.
        dead = died(error)
        lane = stream.lane
        if dead == id_of(self.collector):
            raise RunAborted(f"the collector is gone: {last_line(error)}")
        self.roster.lost(dead)
        if dead == id_of(lane.worker) and stream in lane.queue:
            # What was queued behind the first died with the worker, and is not to blame for it.
            first, *behind = lane.queue
            for item in behind:
                if isinstance(item, Stream):
                    self._give_up(item, error, strike=False)
                else:
                    item.spared = True
            if first is not stream and isinstance(first, Stream):
                self._give_up(first, error, strike=True)
        self._give_up(stream, error, strike=True)

    def _give_up(self, stream: Stream, error: RayError, *, strike: bool) -> None:
        """End this attempt at a shard; begin another, or record the shard as failed."""
        if stream.failed:
            return
        stream.failed = True
        if stream.done:
            self._streams.remove(stream)
        work = stream.work
        self.collector.discard.remote(work.task.key, work.attempt)
        strikes = work.strikes + strike
        stage, reason, final = explain(error, "analyze" if self._split else "decode")
        if final or strikes >= self.job.config.engine.attempts:
            self._record(self.tracker.shard_failed(work.task, stage, reason, strikes))
        else:
            self.tracker.stats.retries += 1
            self._ready.append(Work(work.task, work.attempt + 1, strikes))


def _largest_clip(lane: Lane) -> int:
    return max((item.clip_bytes for item in lane.queue if isinstance(item, Stream)), default=0)
