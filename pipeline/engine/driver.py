"""The driver's loop over Ray references: keeps actors busy and bytes in flight under a cap.

One shard at a time on each worker; its stream is drawn clip by clip as the cap and the analyzers
allow (Ray's generator backpressure stops a decoder that is not drawn from), and every reference
goes on to the next actor without being looked at. Only acknowledgements come back to the driver.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from pipeline.engine.job import Job
from pipeline.engine.sizing import Sizing, clip_bytes
from pipeline.engine.tracker import Ack, Report, Tracker
from pipeline.errors import FrameledgerError, RunAborted, VideoError
from pipeline.records import Failure, ShardTask, Source
from pipeline.resume import Candidate

READY_SHARDS = 2
"""Shards per worker to have planned ahead: videos are indexed while others are decoded, but no
further than this, so that a corpus is not indexed whole before its first row lands."""
AHEAD_FUSED = 8
AHEAD_SPLIT = 2
"""Items of a stream that a worker makes ahead of being drawn: results are small, clips are not."""
CLIPS_PER_ANALYZER = 2
"""One that is worked on, one whose arguments Ray fetches meanwhile."""
ACKS_AHEAD = 64
"""Results sent to the collector and not yet acknowledged, above which no more are drawn."""
TICK_S = 2.0


@dataclass(eq=False)
class _Work:
    """A shard waiting for its turn. Records here are compared by identity: two shards of one
    video hold arrays, which do not compare."""

    task: ShardTask
    attempt: int = 1


@dataclass(eq=False)
class _Stream:
    """A shard on a worker."""

    work: _Work
    worker: Any
    generator: Any
    clip_bytes: int
    """An upper bound for one of its clips."""
    ahead: int
    """Clips that it may hold undrawn, the one being filled among them."""
    drawn: int = 0
    in_flight: int = 0
    """Its clips with analyzers."""
    done: bool = False
    """The generator is at its end; the worker is free."""
    failed: bool = False
    """Given up: it is still drawn to its end, which frees the worker, but nothing is sent on."""

    @property
    def held_bytes(self) -> int:
        """What it may hold. One clip with an analyzer is always counted, so that a stream that
        was let in can go on whatever the others take."""
        if self.done:
            return self.in_flight * self.clip_bytes
        return (self.ahead + max(1, self.in_flight)) * self.clip_bytes


@dataclass(eq=False)
class _Analyzing:
    stream: _Stream
    analyzer: int


@dataclass(eq=False)
class _Indexing:
    candidate: Candidate
    worker: Any
    attempt: int


@dataclass
class Driver:
    """State of one run; `work` returns when everything due has been reported to the tracker."""

    job: Job
    tracker: Tracker
    sizing: Sizing
    collector: Any
    workers: list[Any]
    analyzers: list[Any]
    _idle: list[Any] = field(default_factory=list)
    _ready: deque[_Work] = field(default_factory=deque)
    _to_index: deque[tuple[Candidate, int]] = field(default_factory=deque)
    _streams: list[_Stream] = field(default_factory=list)
    """Shards whose last word has not come yet."""
    _pending: dict[Any, Any] = field(default_factory=dict)
    """Reference -> what it is: an _Indexing, an _Analyzing, or the _Stream it acknowledges."""
    _busy: list[int] = field(default_factory=list)
    """Clips with each analyzer."""
    _exhausted: bool = False

    @property
    def _split(self) -> bool:
        return bool(self.analyzers)

    def work(self, first: Candidate) -> None:
        """Work `first` and all that is due after it."""
        self._await_actors()
        self._busy = [0] * len(self.analyzers)
        self._idle = list(self.workers)
        self._take(first)
        self.tracker.stats.first_work_at = time.perf_counter()
        last_tick = time.perf_counter()
        while True:
            self._refill()
            self._dispatch()
            if not self._streams and not self._pending:
                if self._ready or self._to_index or not self._exhausted:
                    continue
                return
            self._wait()
            now = time.perf_counter()
            if now - last_tick > TICK_S:
                self.collector.tick.remote()
                last_tick = now

    def close(self) -> None:
        """Commit what is whole, then let the actors go."""
        try:
            stats = self.tracker.stats
            stats.commits, stats.commit_s = _get(self.collector.flush.remote())
        finally:
            for actor in [*self.workers, *self.analyzers, self.collector]:
                ray.kill(actor)

    def _await_actors(self) -> None:
        """Models load here; one that cannot be loaded ends the run before any video is touched."""
        for actor in [*self.workers, *self.analyzers]:
            try:
                _get(actor.ready.remote())
            except RayActorError as error:
                cause = _user_error(error)
                if cause is not None:
                    raise cause from None
                raise RunAborted(f"a worker could not start: {_last_line(error)}") from None

    # -- what comes in ----------------------------------------------------------------

    def _refill(self) -> None:
        """Take candidates until enough shards are planned ahead, or none are left."""
        while (
            not self._exhausted
            and len(self._ready) < READY_SHARDS * len(self.workers)
            and len(self._to_index) < len(self.workers)
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
            self._to_index.append((candidate, 1))
        else:
            self._begin(candidate.source, index)

    def _begin(self, source: Source, index: Any) -> None:
        tasks, report = self.tracker.begin(source, index)
        self._record(report)
        self._ready.extend(_Work(task) for task in tasks)

    def _record(self, report: Report) -> None:
        if report.failures or report.outcomes:
            self.collector.record.remote(report)

    # -- what goes out ----------------------------------------------------------------

    def _dispatch(self) -> None:
        while self._idle:
            if self._to_index and len(self._ready) < len(self.workers):
                self._index(*self._to_index.popleft())
            elif self._ready and self._has_room(self._ready[0].task):
                self._start(self._ready.popleft())
            elif self._to_index:
                self._index(*self._to_index.popleft())
            else:
                return

    def _index(self, candidate: Candidate, attempt: int) -> None:
        worker = self._idle.pop()
        ref = worker.index.remote(candidate.source)
        self._pending[ref] = _Indexing(candidate, worker, attempt)

    def _has_room(self, task: ShardTask) -> bool:
        """Whether another shard fits under the cap; one always does, or nothing would go on."""
        needed = self._clip_bytes(task) * (self._ahead + 1)
        return not self._streams or self._in_flight() + needed <= self.sizing.in_flight_bytes

    @property
    def _ahead(self) -> int:
        # Fused, pixels never leave the worker: it holds the one clip that it is filling.
        return 1 + AHEAD_SPLIT if self._split else 0

    def _clip_bytes(self, task: ShardTask) -> int:
        clip = self.job.config.clip
        return clip_bytes(task.index.width, task.index.height, clip.length, clip.step)

    def _in_flight(self) -> int:
        stats = self.tracker.stats
        stats.in_flight_bytes = sum(stream.held_bytes for stream in self._streams)
        stats.peak_in_flight_bytes = max(stats.peak_in_flight_bytes, stats.in_flight_bytes)
        return stats.in_flight_bytes

    def _start(self, work: _Work) -> None:
        worker = self._idle.pop()
        self.collector.begin.remote(work.task, work.attempt)
        ahead = AHEAD_SPLIT if self._split else AHEAD_FUSED
        generator = worker.stream.options(
            num_returns="streaming", _generator_backpressure_num_objects=ahead
        ).remote(work.task, work.attempt)
        one = self._clip_bytes(work.task)
        self._streams.append(_Stream(work, worker, generator, one, self._ahead))
        self._in_flight()

    # -- what comes back --------------------------------------------------------------

    def _wait(self) -> None:
        """Wait for anything that can be acted on now, and act on it."""
        drawable = {s.generator: s for s in self._streams if self._can_draw(s)}
        waiting = [*self._pending, *drawable]
        ready, _ = ray.wait(waiting, num_returns=1, timeout=TICK_S, fetch_local=False)
        if ready and len(waiting) > 1:
            # The first wait blocks; this one collects whatever else is there by now.
            ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0, fetch_local=False)
        for item in ready:
            if item in drawable:
                if self._can_draw(drawable[item]):
                    self._draw(drawable[item])
                continue
            what = self._pending.pop(item)
            if isinstance(what, _Indexing):
                self._indexed(what, item)
            elif isinstance(what, _Analyzing):
                self._analyzed(what, item)
            else:
                self._acknowledged(what, item)

    def _can_draw(self, stream: _Stream) -> bool:
        if stream.done:
            return False
        if stream.failed:
            return True
        if len(self._pending) > ACKS_AHEAD:
            return False
        if not self._split:
            return True
        if min(self._busy) >= CLIPS_PER_ANALYZER:
            return False
        more = stream.clip_bytes if stream.in_flight else 0
        return self._in_flight() + more <= self.sizing.in_flight_bytes or not more

    def _draw(self, stream: _Stream) -> None:
        """Take the next reference of a stream and send it on."""
        task = stream.work.task
        try:
            ref = next(stream.generator)
        except StopIteration:
            stream.done = True
            self._idle.append(stream.worker)
            if stream.failed:
                self._streams.remove(stream)
            return
        if stream.failed:
            return
        is_clip = stream.drawn < len(task.shard.clips)
        stream.drawn += 1
        if self._split and is_clip:
            least = self._busy.index(min(self._busy))
            self._busy[least] += 1
            stream.in_flight += 1
            out = self.analyzers[least].analyze.remote(ref, task.analyses)
            self._pending[out] = _Analyzing(stream, least)
        else:
            self._collect(stream, ref)

    def _collect(self, stream: _Stream, ref: Any) -> None:
        if not stream.failed:
            self._pending[self.collector.add.remote(ref)] = stream

    def _analyzed(self, what: _Analyzing, ref: Any) -> None:
        self._busy[what.analyzer] -= 1
        what.stream.in_flight -= 1
        self._collect(what.stream, ref)

    def _indexed(self, what: _Indexing, ref: Any) -> None:
        self._idle.append(what.worker)
        source = what.candidate.source
        try:
            index = ray.get(ref)
        except RayError as error:
            stage, reason, final = _explain(error, "index")
            if final or what.attempt >= self.job.config.engine.attempts:
                failure = Failure(
                    source.uri, stage, reason, stamp=source.stamp, attempts=what.attempt
                )
                self._record(self.tracker.unreadable(source, failure))
            else:
                self.tracker.stats.retries += 1
                self._to_index.append((what.candidate, what.attempt + 1))
            return
        self.collector.index.remote(index)
        self._begin(source, index)

    def _acknowledged(self, stream: _Stream, ref: Any) -> None:
        task = stream.work.task
        try:
            ack: Ack = ray.get(ref)
        except RayError as error:
            self._shard_error(stream, error)
            return
        self.tracker.acknowledge(ack)
        if ack.ended is not None and not stream.failed:
            self._streams.remove(stream)
            if not stream.done:
                # All its results are in, so the worker is about to return from it.
                stream.done = True
                self._idle.append(stream.worker)
            self._record(self.tracker.shard_done(task, ack.ended))

    def _shard_error(self, stream: _Stream, error: RayError) -> None:
        if stream.failed:
            return  # Another result of the same attempt has told already.
        if isinstance(error, RayActorError) and error.actor_id == self.collector._actor_id.hex():
            raise RunAborted(f"the collector is gone: {_last_line(error)}")
        stream.failed = True
        if stream.done:
            self._streams.remove(stream)
        work = stream.work
        self.collector.discard.remote(work.task.key, work.attempt)
        stage, reason, final = _explain(error, "analyze" if self._split else "decode")
        if final or work.attempt >= self.job.config.engine.attempts:
            self._record(self.tracker.shard_failed(work.task, stage, reason, work.attempt))
        else:
            self.tracker.stats.retries += 1
            self._ready.append(_Work(work.task, work.attempt + 1))


def _get(ref: Any) -> Any:
    """`ray.get`, with a user's error raised as itself."""
    try:
        return ray.get(ref)
    except RayTaskError as error:
        if isinstance(error.cause, FrameledgerError):
            raise error.cause from None
        raise


def _explain(error: RayError, stage: str) -> tuple[str, str, bool]:
    """(stage, reason, whether trying again is pointless) of what came back instead of a result."""
    if isinstance(error, RayTaskError):
        cause = error.cause
        if isinstance(cause, VideoError):
            return cause.stage, cause.reason, cause.stage in ("index", "decode")
        if isinstance(cause, FrameledgerError):
            raise cause  # Nothing of this video's: the run cannot go on.
        return stage, f"{type(cause).__name__}: {_last_line(cause)}", False
    if isinstance(error, RayActorError):
        return stage, "the process that worked on it died", False
    return stage, f"{type(error).__name__}: {_last_line(error)}", False


def _user_error(error: RayActorError) -> FrameledgerError | None:
    """The error for the user that an actor's constructor raised, if it was one."""
    cause: Any = getattr(error, "cause", None) or error.__cause__
    if isinstance(cause, RayTaskError):
        cause = cause.cause
    return cause if isinstance(cause, FrameledgerError) else None


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
