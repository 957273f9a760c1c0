"""The stages on Ray actors. Of the package, only this and the modules it is made of import ray.

driver --- plans, hands out shards, forwards references; touches no pixels and no rows
  |- workers     fused: shard -> stream of clip results
  |              split: shard -> stream of clips (one buffer each, in the object store)
  |- analyzers   split only: clip -> clip result
  `- collector   clip results -> rows -> commits
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import RayError

from pipeline.analyzers.registry import weights_bytes
from pipeline.engine.collect import Collector
from pipeline.engine.collector_link import CollectorLink
from pipeline.engine.driver import Driver
from pipeline.engine.job import Job
from pipeline.engine.joining import join
from pipeline.engine.lanes import Lane
from pipeline.engine.metrics import RunMetrics
from pipeline.engine.roster import Models, Roster
from pipeline.engine.sizing import STORE_HEADROOM_BYTES, Resources, Sizing, size
from pipeline.engine.stats import Ack
from pipeline.engine.tracker import Report, Tracker
from pipeline.engine.worker import AnalyzerGroup, Decoder, FusedWorker
from pipeline.errors import ConfigError, RunAborted
from pipeline.records import ClipPixels, Parcel, ShardEnd, ShardTask, Source, VideoIndex
from pipeline.resume import Candidate

AT_ONCE_ON_GPU = 2
"""Clips in an analyzer's hands: one is computed while the next is copied to the GPU."""


Loaded = TypeVar("Loaded")


class _Starting(Generic[Loaded]):
    """An actor that is there at once, and loads what it needs when told to.

    A first answer thus shows that Ray has found a place for it and has started its process: from
    then on it is known who is slow (see `engine.roster`).
    """

    def __init__(self, job: Job, sizing: Sizing) -> None:
        self._job, self._sizing = job, sizing
        self._one_at_a_time = threading.Lock()
        self._loaded: Loaded | None = None
        self._process = uuid.uuid4().hex

    @ray.method(max_task_retries=-1)
    def process(self) -> str:
        """An id that no other process has, nor the one that takes its place."""
        return self._process

    def start(self) -> None:
        """Load. Raises what the user did wrong."""
        self._there()

    def _there(self) -> Loaded:
        # A process that took the place of one that died unseen is given work untold.
        with self._one_at_a_time:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    def _load(self) -> Loaded:
        raise NotImplementedError


@ray.remote
class FusedActor(_Starting[FusedWorker]):
    """A decoder and its analyzers."""

    def _load(self) -> FusedWorker:
        worker = FusedWorker(self._job, self._sizing.device, self._sizing.threads)
        worker.setup()
        return worker

    def index(self, source: Source) -> VideoIndex:
        return self._there().index(source)

    def stream(self, task: ShardTask, attempt: int) -> Iterator[Parcel]:
        yield from self._there().process(task, attempt)


@ray.remote
class DecoderActor(_Starting[Decoder]):
    """Decodes only; its clips go through the object store."""

    def _load(self) -> Decoder:
        return Decoder(self._job, self._sizing.device)

    def index(self, source: Source) -> VideoIndex:
        return self._there().index(source)

    def stream(self, task: ShardTask, attempt: int) -> Iterator[ClipPixels | Parcel]:
        for item in self._there().decode(task, attempt):
            yield (item,) if isinstance(item, ShardEnd) else item


@ray.remote
class AnalyzerActor(_Starting[AnalyzerGroup]):
    """Holds the models; is handed clips as read-only views of the object store."""

    def _load(self) -> AnalyzerGroup:
        group = AnalyzerGroup(self._job, self._sizing.device, self._sizing.threads)
        group.setup()
        return group

    def analyze(self, clip: ClipPixels, analyses: tuple[str, ...]) -> Parcel:
        return (self._there().analyze(clip, analyses),)


@ray.remote
class CollectorActor:
    """One writer of the tables."""

    def __init__(self, job: Job) -> None:
        self._collector = Collector(job)

    @ray.method(max_task_retries=-1)
    def ready(self) -> bool:
        return True

    def index(self, index: VideoIndex) -> None:
        self._collector.index(index)

    def begin(self, task: ShardTask, attempt: int) -> None:
        self._collector.begin(task, attempt)

    def add(self, parcel: Parcel) -> Ack:
        return self._collector.add(parcel)

    def discard(self, task_key: str, attempt: int) -> None:
        self._collector.discard(task_key, attempt)

    def record(self, report: Report, number: int) -> None:
        self._collector.record(report, number)

    def tick(self) -> None:
        self._collector.tick()

    def flush(self) -> None:
        self._collector.flush()

    def close(self) -> tuple[int, float]:
        return self._collector.close()


def run_ray(job: Job, tracker: Tracker, first: Candidate, address: str | None = None) -> None:
    """Work `first` and all that is due after it on a Ray cluster; on this machine where none is
    named.

    A Ray that the caller has started is used and left running.
    """
    with connected(job, address) as resources:
        sizing = size(job.config, resources, weights_bytes(job.config))
        stats = tracker.stats
        stats.engine, stats.placement = "ray", sizing.placement
        stats.decoders, stats.analyzers = sizing.workers, sizing.analyzers
        driver = Driver(job, tracker, sizing, *_start(job, sizing), RunMetrics(job.run_id))
        try:
            driver.work(first)
        except BaseException:
            # Also on Ctrl-C: shards that are whole are committed before the actors go.
            with suppress(RayError, RunAborted):
                driver.close()
            raise
        driver.close()


@contextmanager
def connected(job: Job, address: str | None) -> Iterator[Resources]:
    """A Ray to run on: the caller's, the one at `address` or RAY_ADDRESS, or one of our own."""
    import psutil

    ours = not ray.is_initialized()
    memory = psutil.virtual_memory().total
    if ours:
        address = address or os.environ.get("RAY_ADDRESS") or "local"
        options: dict[str, Any] = {}
        if address == "local":
            cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
            here = Resources(cpus or os.cpu_count() or 1, 0, memory)
            plan = size(job.config, here, weights_bytes(job.config))
            options = {
                "num_cpus": cpus,
                "include_dashboard": False,
                "object_store_memory": plan.in_flight_bytes + STORE_HEADROOM_BYTES,
            }
        join(address, **options)
    try:
        total, free = ray.cluster_resources(), ray.available_resources()
        # Others may be on this cluster; where nothing is free, their going is waited for.
        cpus, gpus = (free.get(name) or total.get(name, 0.0) for name in ("CPU", "GPU"))
        _check_room(job, total)
        yield Resources(max(1.0, cpus), gpus, memory)
    finally:
        if ours:
            ray.shutdown()


def _check_room(job: Job, total: dict[str, float]) -> None:
    """Raise ConfigError for actors that Ray would look for a place for until the end of days."""
    engine = job.config.engine
    cpus, gpus = total.get("CPU", 0.0), total.get("GPU", 0.0)
    if isinstance(engine.workers, int) and engine.workers > cpus:
        raise ConfigError(
            f"engine.workers = {engine.workers}: there are {cpus:g} CPUs, and a worker takes one"
        )
    if engine.device == "cuda" and gpus < engine.gpus_per_analyzer:
        raise ConfigError(
            f"engine.device = cuda: Ray knows of {gpus:g} GPUs; set engine.device: cpu or auto"
        )


def _start(job: Job, sizing: Sizing) -> tuple[CollectorLink, Roster]:
    """The collector, and the workers and analyzers.

    Actors come back by themselves however often they die; how often a piece of work may fail is
    the driver's to count.
    """
    forever = {"max_restarts": -1, "max_task_retries": 0}
    collector: Any = CollectorActor
    link = CollectorLink(collector.options(num_cpus=0, **forever).remote(job))
    gpus = job.config.engine.gpus_per_analyzer if sizing.device == "cuda" else 0
    fused = sizing.placement == "fused"
    kind: Any = FusedActor if fused else DecoderActor
    workers = [
        kind.options(num_cpus=1, num_gpus=gpus if fused else 0, **forever).remote(job, sizing)
        for _ in range(sizing.workers)
    ]
    analyzer: Any = AnalyzerActor
    analyzers = [
        analyzer.options(
            num_cpus=0, num_gpus=gpus, max_concurrency=AT_ONCE_ON_GPU if gpus else 1, **forever
        ).remote(job, sizing)
        for _ in range(sizing.analyzers)
    ]
    return link, Roster([Lane(worker) for worker in workers], list(map(Models, analyzers)))
