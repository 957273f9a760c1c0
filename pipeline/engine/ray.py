"""The stages on Ray actors. Of the package, only this and the modules it is made of import ray.

driver --- plans, hands out shards, forwards references; touches no pixels and no rows
  |- workers     fused: shard -> stream of clip results
  |              split: shard -> stream of clips (one buffer each, in the object store)
  |- analyzers   split only: clip -> clip result
  `- collectors  clip results -> rows -> commits
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psutil
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.analyzers.registry import weights_bytes
from pipeline.engine import nodes
from pipeline.engine.actors import CollectorActor
from pipeline.engine.collector_link import CollectorLink
from pipeline.engine.collectors import Collectors
from pipeline.engine.course import Course
from pipeline.engine.driver import Driver
from pipeline.engine.fleet import FOREVER, Fleet
from pipeline.engine.job import Job
from pipeline.engine.joining import join
from pipeline.engine.metrics import RunMetrics
from pipeline.engine.roster import Roster
from pipeline.engine.sizing import STORE_HEADROOM_BYTES, Node, size
from pipeline.errors import ConfigError, RunAborted
from pipeline.resume import Candidate


def run_ray(job: Job, course: Course, first: Candidate, address: str | None = None) -> None:
    """Work `first` and all that is due after it on a Ray cluster; on this machine where none is
    named.

    A Ray that the caller has started is used and left running.
    """
    with connected(job, address):
        there, grows = nodes.look(), nodes.may_grow()
        if not grows:
            _check_room(job, there)
        sizing = size(job.config, there, weights_bytes(job.config), grows=grows)
        course.stats.engine, course.stats.placement = "ray", sizing.placement
        fleet = Fleet(job, sizing, Roster(needs_models=sizing.placement == "split"))
        fleet.look()
        fleet.hire()
        driver = Driver(job, course, _collectors(job, fleet), fleet, RunMetrics(job.run_id))
        try:
            driver.work(first)
        except BaseException:
            # Also on Ctrl-C: shards that are whole are committed before the actors go.
            with suppress(RayError, RunAborted):
                driver.close()
            raise
        driver.close()


@contextmanager
def connected(job: Job, address: str | None) -> Iterator[None]:
    """A Ray to run on: the caller's, the one at `address` or RAY_ADDRESS, or one of our own."""
    ours = not ray.is_initialized()
    if ours:
        address = address or os.environ.get("RAY_ADDRESS") or "local"
        options: dict[str, Any] = {}
        if address == "local":
            cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
            here = Node("", True, cpus or os.cpu_count() or 1, 0, psutil.virtual_memory().total)
            sizing = size(job.config, [here], weights_bytes(job.config))
            options = {
                "num_cpus": cpus,
                "include_dashboard": False,
                "object_store_memory": sizing.in_flight_bytes(here) + STORE_HEADROOM_BYTES,
            }
        join(address, **options)
    try:
        yield
    finally:
        if ours:
            ray.shutdown()


def _check_room(job: Job, there: Sequence[Node]) -> None:
    """Raise ConfigError for actors that Ray would look for a place for until the end of days."""
    engine = job.config.engine
    cpus, gpus = sum(node.cpus for node in there), sum(node.gpus for node in there)
    if isinstance(engine.workers, int) and engine.workers > cpus:
        raise ConfigError(
            f"engine.workers = {engine.workers}: there are {cpus:g} CPUs, and a worker takes one"
        )
    if engine.device == "cuda" and gpus < engine.gpus_per_analyzer:
        raise ConfigError(
            f"engine.device = cuda: Ray knows of {gpus:g} GPUs; set engine.device: cpu or auto"
        )


def _collectors(job: Job, fleet: Fleet) -> Collectors:
    """On the driver's node: the tables may be in a folder of this machine, and what collectors
    keep until they commit ends with no other node."""
    here = NodeAffinitySchedulingStrategy(nodes.driver_node(), soft=False)
    kind: Any = CollectorActor
    made = kind.options(num_cpus=0, scheduling_strategy=here, **FOREVER)
    count = -(-max(1, fleet.analyzing) // job.config.engine.analyzers_per_collector)
    return Collectors([CollectorLink(made.remote(job, part)) for part in range(count)])
