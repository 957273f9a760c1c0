"""What the actors of a run take, and what a node has for them: arithmetic, no processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from pipeline.config import Config
from pipeline.errors import ConfigError

PROCESS_BYTES = 700 * 2**20
"""Private memory of one actor with small models loaded and its clips in hand: measured 250 MB with
the probe and 620 MB with torch and both demo models."""
TIMES_WEIGHTS = 2
"""What full-size models take on top, in sizes of their files: 1.6 GB were measured with RT-DETR v2
R18 and CLIP B/32 (0.7 GB of files), 2.0 GB with Mask R-CNN R50-FPN in place of RT-DETR."""
BASE_BYTES = 600 * 2**20
"""The driver, the collector and Ray's own daemons."""
STORE_HEADROOM_BYTES = 128 * 2**20
"""Object store beyond the pixels in flight: results, indexes, Ray's own objects."""
MOST_TOGETHER = 4
TOGETHER_BYTES = 2**20
"""Small clips go to an analyzer several at a time, since each call costs three processes about a
millisecond each. Not more, so that the last ones of a run still spread over the analyzers."""

Kind = Literal["worker", "analyzer"]


@dataclass(frozen=True)
class Node:
    """What one node of a cluster has. CPUs and GPUs may be fractions, as Ray's are."""

    node_id: str
    head: bool
    cpus: float
    gpus: float
    memory_bytes: int
    """Physical memory, as far as it is known."""
    free_cpus: float = 0.0
    """Of `cpus`, what nobody holds, this run included."""
    free_gpus: float = 0.0
    store_bytes: int | None = None
    """Of its object store; None: made to measure."""


@dataclass(frozen=True)
class Need:
    """What the actors of one kind take, and how many are wanted."""

    kind: Kind
    cpus: float
    gpus: float
    nbytes: int
    """Private memory of one."""
    count: int | None
    """So many, whatever else there is; None: as many as there is room for, in these bounds."""
    least: int = 1
    most: int | None = None
    per_node: int | None = None

    @property
    def ceiling(self) -> int | None:
        """How many are made at most; None: as many as there is room for."""
        return self.count or self.most

    @property
    def asked(self) -> int:
        """How many are asked for where there is no room yet."""
        return self.ceiling or self.least


@dataclass(frozen=True)
class Sizing:
    """What a run starts, by node."""

    placement: Literal["split", "fused"]
    device: Literal["cpu", "cuda"]
    needs: tuple[Need, ...]
    """Analyzers before workers: what they hold of a node is not there for others."""
    limit: int | None
    """Bytes of all processes and the object store of a node; None: half of its memory."""
    in_flight: int | None
    """Bytes of decoded pixels on a node; None: an eighth of the limit."""

    def limit_bytes(self, node: Node) -> int:
        return self.limit if self.limit is not None else node.memory_bytes // 2

    def in_flight_bytes(self, node: Node) -> int:
        """Pixels decoded on `node` that may wait for analyzers at once."""
        if self.in_flight is not None:
            return self.in_flight
        share = self.limit_bytes(node) // 8
        if self.placement == "fused" or node.store_bytes is None:
            return share
        return min(share, max(node.store_bytes - STORE_HEADROOM_BYTES, node.store_bytes // 2))

    def room_bytes(self, node: Node) -> int:
        """What is left of the limit for processes of our own."""
        return self.limit_bytes(node) - self.in_flight_bytes(node) - BASE_BYTES


def size(
    config: Config, nodes: Sequence[Node], weights_bytes: int = 0, *, grows: bool = False
) -> Sizing:
    """Choose placement, device and what each process takes; what the configuration says is taken
    as it is.

    Args:
        nodes: what there is at the start.
        weights_bytes: size of the files that each process with models loads.
        grows: nodes may join later.

    Raises ConfigError where no node's memory carries a single worker.
    """
    engine, memory = config.engine, config.memory
    device: Literal["cpu", "cuda"] = "cpu"
    asked = grows and (engine.min_analyzers or engine.max_analyzers)
    gpus = any(node.gpus > 0 for node in nodes)
    if engine.device == "cuda" or (engine.device == "auto" and (gpus or asked)):
        device = "cuda"
    # Pixels that never leave a process are fastest where decoding and models share the CPUs. A
    # GPU wants both apart: many decoders feed one, and nothing decodes where the GPU is held.
    placement: Literal["split", "fused"] = "split" if device == "cuda" else "fused"
    if engine.placement != "auto":
        placement = engine.placement
    with_models = PROCESS_BYTES + TIMES_WEIGHTS * weights_bytes
    split = placement == "split"
    on_gpu = engine.gpus_per_analyzer if device == "cuda" else 0.0
    analyzers = Need(
        "analyzer",
        cpus=0.0,
        gpus=on_gpu,
        nbytes=with_models,
        count=None if engine.analyzers == "auto" else engine.analyzers,
        least=engine.min_analyzers or 1,
        most=engine.max_analyzers,
        per_node=1 if engine.analyzers == "auto" and not on_gpu else None,
    )
    workers = Need(
        "worker",
        cpus=1.0,
        gpus=0.0 if split else on_gpu,
        nbytes=PROCESS_BYTES if split else with_models,
        count=None if engine.workers == "auto" else engine.workers,
        least=engine.min_workers or 1,
        most=engine.max_workers,
    )
    found = Sizing(
        placement,
        device,
        (analyzers, workers) if split else (workers,),
        limit=None if memory.limit == "auto" else memory.limit,
        in_flight=None if memory.in_flight == "auto" else memory.in_flight,
    )
    _check_memory(found, nodes)
    return found


def _check_memory(sizing: Sizing, nodes: Sequence[Node]) -> None:
    """Raise ConfigError where the memory limit does not carry a worker beside its analyzers."""
    if not nodes:
        return
    largest = max(nodes, key=sizing.room_bytes)
    *before, worker = sizing.needs
    held = sum(need.nbytes * -(-(need.count or 1) // len(nodes)) for need in before)
    if sizing.room_bytes(largest) < held + worker.nbytes:
        in_flight = sizing.in_flight_bytes(largest)
        needed = BASE_BYTES + held + worker.nbytes + in_flight
        raise ConfigError(
            f"memory.limit = {_gib(sizing.limit_bytes(largest))}: too little for one worker with "
            f"memory.in_flight = {_gib(in_flight)}; give at least {_gib(needed)}"
        )


def local_device(config: Config) -> str:
    """The device of the in-process engine."""
    if config.engine.device == "cpu":
        return "cpu"
    if config.engine.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ConfigError("engine.device = cuda: torch finds no GPU; set cpu or auto")
        return "cuda"
    if config.detector is None and (config.embedder is None or config.embedder.backend == "probe"):
        return "cpu"  # Nothing that could use one: do not import torch to find out.
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def all_threads() -> int:
    """Of torch, where this process has the machine: one for each CPU that it may use."""
    with suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def clip_bytes(width: int, height: int, length: int, step: int) -> int:
    """An upper bound for one clip's decoded pixels, overlapping windows that are open included."""
    windows = -(-length // step)
    return width * height * 3 * length * windows


def clips_together(one: int, room: int) -> int:
    """How many clips of `one` bytes go to an analyzer in one call, where there is `room` bytes for
    them: at least one."""
    return max(1, min(MOST_TOGETHER, TOGETHER_BYTES // one, room // one))


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"
