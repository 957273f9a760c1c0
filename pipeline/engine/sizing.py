"""How many actors, on what, with how much memory: arithmetic on what the machine has."""

from __future__ import annotations

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


@dataclass(frozen=True)
class Resources:
    """What there is to run on."""

    cpus: float
    gpus: float
    memory_bytes: int
    """Physical memory of the machine that holds the driver."""


@dataclass(frozen=True)
class Sizing:
    """What a run starts."""

    placement: Literal["split", "fused"]
    device: Literal["cpu", "cuda"]
    workers: int
    analyzers: int
    threads: int
    """torch threads of each process that runs models on the CPU."""
    limit_bytes: int
    in_flight_bytes: int
    """Decoded pixels that may exist between decoders and analyzers at once."""


def size(config: Config, resources: Resources, weights_bytes: int = 0) -> Sizing:
    """Choose placement, counts and memory; what the configuration says is taken as it is.

    `weights_bytes` is the size of the files that each process with models loads.

    Raises ConfigError where the memory limit does not carry a single worker.
    """
    engine, memory = config.engine, config.memory
    cpus = max(1, int(resources.cpus))
    device: Literal["cpu", "cuda"] = "cpu"
    if engine.device == "cuda" or (engine.device == "auto" and resources.gpus > 0):
        device = "cuda"
    # Pixels that never leave a process are fastest where decoding and models share the CPUs. A
    # GPU wants both apart: many decoders feed one, and nothing decodes where the GPU is held.
    placement: Literal["split", "fused"] = "split" if device == "cuda" else "fused"
    if engine.placement != "auto":
        placement = engine.placement
    limit = memory.limit if isinstance(memory.limit, int) else resources.memory_bytes // 2
    in_flight = memory.in_flight if isinstance(memory.in_flight, int) else limit // 8

    analyzers = 0
    if placement == "split":
        analyzers = engine.analyzers if isinstance(engine.analyzers, int) else 1
        if engine.analyzers == "auto" and device == "cuda":
            analyzers = max(1, int(resources.gpus / engine.gpus_per_analyzer))
    with_models = PROCESS_BYTES + TIMES_WEIGHTS * weights_bytes
    worker = PROCESS_BYTES if placement == "split" else with_models
    room = limit - in_flight - BASE_BYTES - analyzers * with_models
    workers = engine.workers if isinstance(engine.workers, int) else cpus
    if room < worker:
        needed = BASE_BYTES + analyzers * with_models + worker + in_flight
        raise ConfigError(
            f"memory.limit = {_gib(limit)}: too little for one worker with memory.in_flight "
            f"= {_gib(in_flight)}; give at least {_gib(needed)}"
        )
    if engine.workers == "auto":
        workers = min(workers, int(room // worker))
    busy = analyzers if placement == "split" else workers
    threads = max(1, cpus // max(1, busy))
    return Sizing(placement, device, workers, analyzers, threads, limit, in_flight)


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


def clip_bytes(width: int, height: int, length: int, step: int) -> int:
    """An upper bound for one clip's decoded pixels, overlapping windows that are open included."""
    windows = -(-length // step)
    return width * height * 3 * length * windows


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"
