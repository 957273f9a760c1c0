"""Tracks on Ray: each actor follows one video at a time, different videos at once.

Where the shards of a video are followed apart from each other, so are they.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError

from pipeline.engine import nodes
from pipeline.engine.actors import _Starting
from pipeline.engine.cause import Cause
from pipeline.engine.fleet import FOREVER
from pipeline.engine.job import Job
from pipeline.engine.ray import connected
from pipeline.engine.ray_errors import died, explain
from pipeline.engine.roster import STARTS
from pipeline.engine.track_sizing import track_sizing
from pipeline.errors import RunAborted
from pipeline.records import ShardTask
from pipeline.tracks.landed import ShardRows
from pipeline.tracks.shards import Opening, ShardTracks, VideoFollower, follower_of
from pipeline.tracks.video_work import Due, Followed, RowsOf, Spread, Stop, VideoWork

LOOK_S = 1.0
"""How often to look for what does not come."""
SAY_AFTER_S = 10.0

Say = Callable[[str], None]


@ray.remote
class TrackActor(_Starting[VideoFollower]):
    """Holds the model, and the state of the video that it follows."""

    def _load(self) -> VideoFollower:
        return follower_of(self._job.config, self._device, self._threads)

    def follow(
        self, opening: Opening | None, task: ShardTask, rows: ShardRows, is_last: bool
    ) -> ShardTracks:
        return self._there().follow(opening, task, rows, is_last)


def follow_on_ray(job: Job, address: str | None, say: Say) -> Spread:
    """A spread over a Ray cluster: for pictures its GPUs, or its nodes where there are none; for
    boxes its CPUs.

    Args:
        say: is told what is waited for.
    """

    def spread(given: Iterator[VideoWork], rows_of: RowsOf, stop: Stop) -> Iterator[Followed]:
        first = next(given, None)
        if first is None:
            return
        with connected(job, address):
            yield from _Pool(job, say).follow(chain([first], given), rows_of, stop)

    return spread


class _Busy(NamedTuple):
    """What an actor follows, since when."""

    work: VideoWork
    task: ShardTask
    rows: ShardRows
    actor: Any
    since: float


class _Pool:
    """Actors, made as there are videos for them, up to what the cluster has."""

    def __init__(self, job: Job, say: Say) -> None:
        self._job = job
        self._say = say
        self._sizing = track_sizing(job, nodes.look(), nodes.may_grow())
        engine = job.config.engine
        self._limit_s = None if engine.shard_timeout == "auto" else engine.shard_timeout
        """What a shard takes hangs on how many objects are in it: there is no limit by itself."""
        self._starting: dict[Any, tuple[Any, float, bool]] = {}
        """Actors that wait for room or are brought back, since when; or (True) load the model."""
        self._failed_starts = 0
        self._made = 0
        self._idle: list[Any] = []
        self._open: list[VideoWork] = []
        """Videos under way."""
        self._busy: dict[Any, _Busy] = {}
        self._stuck: set[Any] = set()

    def follow(self, given: Iterator[VideoWork], rows_of: RowsOf, stop: Stop) -> Iterator[Followed]:
        """See `video_work.Spread`."""
        found = self._next(given)
        while True:
            while found is not None and self._idle and not stop():
                self._send(*found, self._idle.pop(), rows_of)
                found = self._next(given)
            found = found or self._next(given)
            wanted = found is not None and not stop()
            if not wanted and not self._busy:
                for _ in given:
                    pass  # Those that are left are counted as they are asked for.
                return
            there = self._made - len(self._starting)
            if wanted and self._made < self._sizing.most and len(self._starting) < max(1, there):
                self._start()
            for ref in self._wait():
                yield from self._heard(ref, stop, rows_of)

    def _next(self, given: Iterator[VideoWork]) -> tuple[VideoWork, Due] | None:
        """What is to be followed next: of the videos under way, else of one more."""
        self._open = [work for work in self._open if not work.is_done]
        for work in chain(list(self._open), self._opened(given)):
            due = work.next()
            if due is not None:
                return work, due
        return None

    def _opened(self, given: Iterator[VideoWork]) -> Iterator[VideoWork]:
        for work in given:
            self._open.append(work)
            yield work

    def _start(self) -> None:
        self._made += 1
        kind: Any = TrackActor
        size = self._sizing
        room = {"num_cpus": size.cpus, "num_gpus": size.gpus, "scheduling_strategy": "SPREAD"}
        self._await(kind.options(**room, **FOREVER).remote(self._job, size.device, size.threads))

    def _await(self, actor: Any) -> None:
        """It is given work once it is there: Ray refuses calls to one that it brings back."""
        self._starting[actor.process.remote()] = actor, time.monotonic(), False

    def _wait(self) -> list[Any]:
        """What has come of calls, after some time perhaps nothing."""
        refs = [*self._busy, *self._starting]
        ray.wait(refs, num_returns=1, timeout=LOOK_S)
        ready, late = ray.wait(refs, num_returns=len(refs), timeout=0)
        for ref in late:
            if ref in self._busy:
                self._replace_stuck(ref)
            elif not self._busy:
                _, since, loads = self._starting[ref]
                what = "its model is loaded" if loads else "there is room on the cluster"
                if time.monotonic() - since > SAY_AFTER_S:
                    self._say(f"tracks: waiting until {what}")
        return list(ready)

    def _replace_stuck(self, ref: Any) -> None:
        busy = self._busy[ref]
        if self._limit_s is None or ref in self._stuck:
            return
        if time.monotonic() - busy.since > self._limit_s:
            self._stuck.add(ref)
            ray.kill(busy.actor, no_restart=False)

    def _send(self, work: VideoWork, due: Due, actor: Any, rows_of: RowsOf) -> None:
        rows = rows_of(due.task)
        ref = actor.follow.remote(due.opening, due.task, rows, due.is_last)
        self._busy[ref] = _Busy(work, due.task, rows, actor, time.monotonic())

    def _heard(self, ref: Any, stop: Stop, rows_of: RowsOf) -> Iterator[Followed]:
        if ref in self._starting:
            self._started(ref)
            return
        work, task, rows, actor, _ = self._busy.pop(ref)
        was_stuck = ref in self._stuck
        self._stuck.discard(ref)
        came: ShardTracks | Cause
        is_there = True
        try:
            came = ray.get(ref)
        except RayError as error:
            came = explain(error, "analyze")
            if was_stuck:
                limit = f"{self._limit_s:g} s (engine.shard_timeout)"
                came = came.said(f"stuck: no tracks of a shard for {limit}")
            if came.device_lost:
                ray.kill(actor, no_restart=False)
            is_there = not (died(error) or came.device_lost)
        yield from work.came(task, came, rows)
        if not is_there:
            self._await(actor)
            return
        # The video's next shard first: its state is here.
        due = None if stop() else work.next()
        if due is None:
            self._idle.append(actor)
        else:
            self._send(work, due, actor, rows_of)

    def _started(self, ref: Any) -> None:
        actor, _, loads = self._starting.pop(ref)
        try:
            ray.get(ref)
        except RayError as error:
            cause = explain(error, "start")
            self._failed_starts += 1
            if self._failed_starts >= STARTS:
                raise RunAborted(f"what follows tracks cannot start: {cause.reason}") from None
            self._await(actor)
            return
        if loads:
            self._failed_starts = 0
            self._idle.append(actor)
        else:
            self._starting[actor.start.remote()] = actor, time.monotonic(), True
