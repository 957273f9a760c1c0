"""How many actors follow tracks, and what each takes: arithmetic, no processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.engine.job import Job
from pipeline.engine.placement import usable
from pipeline.engine.sizing import Need, Node, size
from pipeline.errors import ConfigError


@dataclass(frozen=True)
class TrackSizing:
    """Actors that are alike."""

    most: int
    device: Literal["cpu", "cuda"]
    cpus: float
    gpus: float
    threads: int
    """Of torch in each."""


def track_sizing(job: Job, found: list[Node], grows: bool) -> TrackSizing:
    """What a cluster has room for.

    Args:
        found: its nodes.
        grows: nodes may join later.

    Raises ConfigError where there is no room for any, and never will be.
    """
    return _of_pictures(job, found, grows) if job.looks_again else _of_boxes(job, found)


def _of_boxes(job: Job, found: list[Node]) -> TrackSizing:
    """Numbers alone: one for each CPU, in the place of the run's workers, which are gone."""
    engine = job.config.engine
    need = Need("worker", cpus=1.0, gpus=0.0, nbytes=0, count=None)
    fits = sum(int(node.cpus) for node in usable(found, need, engine.head))
    bounds = [engine.max_workers or fits, fits if engine.workers == "auto" else engine.workers]
    return TrackSizing(max(1, min(fits, *bounds)), "cpu", cpus=1.0, gpus=0.0, threads=1)


def _of_pictures(job: Job, found: list[Node], grows: bool) -> TrackSizing:
    engine = job.config.engine
    device = size(job.config, found, grows=grows).device
    gpus = engine.gpus_per_analyzer if device == "cuda" else 0.0
    need = Need("analyzer", cpus=0.0, gpus=gpus, nbytes=0, count=None)
    there = usable(found, need, engine.head)
    most = most_of(job, there, need, grows)
    alike = -(-most // max(1, len(there)))
    threads = max(1, int(min((node.cpus for node in there), default=1.0)) // alike)
    return TrackSizing(most, device, cpus=0.0, gpus=gpus, threads=threads)


def most_of(job: Job, there: list[Node], need: Need, grows: bool) -> int:
    """How many actors there can be.

    Args:
        there: the nodes.
        need: of one actor.
        grows: nodes may join later.

    Raises ConfigError where there is no room for any, and never will be.
    """
    engine = job.config.engine
    fits = len(there)
    if need.gpus:
        fits = sum(int((node.gpus + 1e-9) / need.gpus) for node in there)
        if grows:
            fits = max(fits, engine.max_analyzers or engine.min_analyzers or 1)
    if not fits:
        raise ConfigError(
            f"engine.device = cuda: no node has {need.gpus:g} GPUs to follow tracks with; set "
            "engine.device: cpu or auto, or engine.gpus_per_analyzer"
        )
    # Without GPUs one process has all CPUs of a node, unless more are asked for.
    if engine.analyzers != "auto":
        return min(engine.analyzers, fits) if need.gpus else engine.analyzers
    return fits
