"""Whether the models of a configuration load and work here, without a video and without tables."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pipeline.analyzers.base import ModelFacts
from pipeline.config import Config
from pipeline.records import Analysis

SIZE = (1280, 720)
"""Width and height of the generated frame."""


@dataclass(frozen=True)
class ModelCheck:
    """One analyzer that was loaded and tried."""

    analysis: Analysis
    facts: ModelFacts
    device: str
    size: tuple[int, int]
    rows: int
    """Rows that the frame gave."""
    seconds: float
    memory: str
    """What it took, in words."""


def check_models(config: Config) -> list[ModelCheck]:
    """Load every analyzer, one after another, and run each on one frame of the demo world.

    Raises ConfigError where one cannot be found or loaded, and VideoError where it fails on
    the frame.
    """
    from pipeline.analyzers.registry import build_analyzers
    from pipeline.engine.job import analyses_of
    from pipeline.engine.sizing import local_device

    device = local_device(config)
    _, *analyses = analyses_of(config)
    return [
        _check(member, analysis, device)
        for member, analysis in zip(build_analyzers(config), analyses, strict=True)
    ]


def _check(member, analysis: Analysis, device: str) -> ModelCheck:  # type: ignore[no-untyped-def]
    import numpy as np

    from pipeline.analyzers.frames import FrameBatch
    from pipeline.clip_pixels import Pixels
    from pipeline.demo.world import World

    before = _private_bytes()
    member.setup(device)
    width, height = SIZE
    picture = np.ascontiguousarray(World(0, width, height).render(0)[None])
    for _ in range(2):  # The first run pays for warming up.
        started = time.perf_counter()
        rows = member.analyze(FrameBatch(Pixels(picture, "rgb24", width, height)))
        seconds = time.perf_counter() - started
    return ModelCheck(
        analysis=analysis,
        facts=member.facts(),
        device=device,
        size=SIZE,
        rows=rows.num_rows,
        seconds=seconds,
        memory=_memory(device, before),
    )


def _memory(device: str, before: int) -> str:
    grown = max(0, _private_bytes() - before) / 2**20
    text = f"{grown:,.0f} MiB of this process with its libraries"
    if device != "cpu":
        import torch

        text += f", {torch.cuda.max_memory_allocated() / 2**20:,.0f} MiB of the device at most"
    return text


def _private_bytes() -> int:
    import psutil

    return int(psutil.Process().memory_full_info().uss)
