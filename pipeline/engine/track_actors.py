"""Tracks of pictures on Ray: each actor follows one video at a time, different videos at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain
from typing import Any

import ray
from ray.exceptions import RayError

from pipeline.engine import nodes
from pipeline.engine.actors import _Starting
from pipeline.engine.fleet import FOREVER
from pipeline.engine.job import Job
from pipeline.engine.ray import connected
from pipeline.engine.ray_errors import explain
from pipeline.engine.sizing import size
from pipeline.records import ShardTask
from pipeline.tracks.landed import ShardRows
from pipeline.tracks.shards import Opening, ShardTracks, VideoFollower, follower_of
from pipeline.tracks.video_work import Due, Followed, RowsOf, Spread, Stop, VideoWork

LOOK_S = 1.0
"""How often to look for what does not come."""


@ray.remote
class TrackActor(_Starting[VideoFollower]):
    """Holds the model, and the state of the video that it follows."""

    def _load(self) -> VideoFollower:
        return follower_of(self._job.config, self._device, self._threads)

    def follow(
        self, opening: Opening | None, task: ShardTask, rows: ShardRows, is_last: bool
    ) -> ShardTracks:
        return self._there().follow(opening, task, rows, is_last)


def follow_on_ray(job: Job, address: str | None) -> Spread:
    """A spread over the GPUs of a Ray cluster, or its nodes where there are none."""

    def spread(given: Iterator[VideoWork], rows_of: RowsOf, stop: Stop) -> Iterator[Followed]:
        first = next(given, None)
        if first is None:
            return
        with connected(job, address):
            yield from _Pool(job).follow(chain([first], given), rows_of, stop)

    return spread


class _Pool:
    """Actors, made as there are videos for them, up to what the cluster has."""

    def __init__(self, job: Job) -> None:
        there = nodes.look()
        engine = job.config.engine
        self._job = job
        self._device = size(job.config, there).device
        self._gpus = engine.gpus_per_analyzer if self._device == "cuda" else 0.0
        if engine.analyzers != "auto":
            self._most = engine.analyzers
        elif self._gpus:
            self._most = max(1, int(sum(node.gpus for node in there) / self._gpus))
        else:
            self._most = len(there)
        # Without GPUs one process has all CPUs of a node, unless so many are asked for.
        alike = -(-self._most // len(there))
        self._threads = max(1, int(min(node.cpus for node in there)) // alike)
        self._idle: list[Any] = []
        self._made = 0
        self._busy: dict[Any, tuple[VideoWork, Any, Due]] = {}
        self._limit_s = None if engine.shard_timeout == "auto" else engine.shard_timeout
        """What a shard takes hangs on how many objects are in it: there is no limit by itself."""
        self._sent_at: dict[Any, float] = {}
        self._stuck: set[Any] = set()

    def follow(self, given: Iterator[VideoWork], rows_of: RowsOf, stop: Stop) -> Iterator[Followed]:
        while True:
            while not stop() and (self._idle or self._made < self._most):
                work = next(given, None)
                if work is None:
                    break
                self._send(work, self._actor(), rows_of)
            if not self._busy:
                return
            ready, late = ray.wait(list(self._busy), num_returns=1, timeout=LOOK_S)
            self._replace_stuck(late)
            for ref in ready:
                work, actor, due = self._busy.pop(ref)
                followed = self._heard(ref, work, actor, due)
                if followed is not None:
                    yield followed
                given_up = followed is not None and not isinstance(followed.came, ShardTracks)
                if work.is_done or given_up or stop():
                    self._idle.append(actor)
                else:
                    self._send(work, actor, rows_of)

    def _actor(self) -> Any:
        if self._idle:
            return self._idle.pop()
        self._made += 1
        kind: Any = TrackActor
        made = kind.options(
            num_cpus=0, num_gpus=self._gpus, scheduling_strategy="SPREAD", **FOREVER
        )
        return made.remote(self._job, self._device, self._threads)

    def _send(self, work: VideoWork, actor: Any, rows_of: RowsOf) -> None:
        due = work.next()
        ref = actor.follow.remote(due.opening, due.task, rows_of(due.task), due.is_last)
        self._busy[ref] = work, actor, due
        self._sent_at[ref] = time.monotonic()

    def _replace_stuck(self, late: list[Any]) -> None:
        for ref in late:
            _, actor, _ = self._busy[ref]
            spent_s = time.monotonic() - self._sent_at[ref]
            if self._limit_s is not None and spent_s > self._limit_s and ref not in self._stuck:
                self._stuck.add(ref)
                ray.kill(actor, no_restart=False)

    def _heard(self, ref: Any, work: VideoWork, actor: Any, due: Due) -> Followed | None:
        """None where the shard is tried again."""
        del self._sent_at[ref]
        try:
            tracks = ray.get(ref)
        except RayError as error:
            cause = explain(error, "analyze")
            if ref in self._stuck:
                self._stuck.discard(ref)
                limit = f"{self._limit_s:g} s (engine.shard_timeout)"
                cause = cause.said(f"stuck: no tracks of a shard for {limit}")
            if cause.device_lost:
                ray.kill(actor, no_restart=False)
            return None if work.failed(cause) else Followed(work, due.task, cause)
        return Followed(work, work.done(tracks), tracks)
