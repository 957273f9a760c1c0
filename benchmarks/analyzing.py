"""Frames per second of one model: in a run, fed by hand, and alone on ready tensors."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gpu import Busy, peak_memory, reset_memory, utilization

if TYPE_CHECKING:
    from pipeline.clip_pixels import ClipPixels
    from pipeline.config import Config

MOST_FED = 128
"""Frames decoded beforehand for `fed`: 400 MB at 1080p."""


@dataclass(frozen=True)
class InRun:
    """The analyzer's own time in a run, from the first clip on."""

    rate: float
    """Frames per second."""
    steps_s: dict[str, float]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Fed:
    """An analyzer that never waits for a decoder, as on a GPU with enough CPUs."""

    rate: float
    """Frames per second by the clock, uploads included."""
    busy: float | None
    """Share of the time in which the GPU worked."""
    memory: tuple[int, int] | None
    """Bytes allocated and reserved at most, of the GPU."""


def in_run(config: Config, video: Path, output: Path) -> InRun:
    """A whole run of one analyzer with the engine in this process, which is without Ray."""
    from pipeline.runner import run

    shutil.rmtree(output, ignore_errors=True)
    summary = run(config, [str(video)], output, engine="local")
    if summary.exit_code:
        raise RuntimeError(f"{video}: {summary.problems}")
    (spent,) = summary.analyze_s.values()
    return InRun(summary.frames / spent, summary.steps_s, summary.notes)


def fed(config: Config, video: Path, output: Path, *, warm_s: float, seconds: float) -> Fed:
    """Clips that are decoded already, two at a time, as the engines give them to an actor.

    Args:
        warm_s: before anything is measured; what NVML says is of up to a second ago.
        seconds: to go on for; each thread does one clip at the least.
    """
    from pipeline.engine.sizing import local_device
    from pipeline.engine.worker import AnalyzerGroup
    from pipeline.runner import make_job

    device = local_device(config)
    job = make_job(config, str(output), "local")
    clips = _decoded(job, video, device)
    due = tuple(analysis.fingerprint for analysis in job.analyses)
    reset_memory(device)
    group = AnalyzerGroup(job, device, len(os.sched_getaffinity(0)))
    group.setup()

    def analyze(until: float) -> int:
        frames = 0
        for clip in cycle(clips):
            frames += len(group.analyze(clip, due).positions)
            if time.perf_counter() >= until:
                break
        return frames

    def rate(least_s: float) -> float:
        started = time.perf_counter()
        frames = sum(threads.map(analyze, [started + least_s] * 2))
        return frames / (time.perf_counter() - started)

    with ThreadPoolExecutor(2) as threads:
        rate(warm_s)
        with Busy(utilization(device)) as busy:
            measured = rate(seconds)
    return Fed(measured, busy.share, peak_memory(device))


def _decoded(job: Any, video: Path, device: str) -> list[ClipPixels]:
    from pipeline.clip_pixels import ClipPixels
    from pipeline.engine.worker import Decoder
    from pipeline.records import Source
    from pipeline.sources.discover import discover
    from pipeline.sources.plan import plan_video

    source = next(discover([str(video)]))
    assert isinstance(source, Source)
    decoder = Decoder(job, device)
    tasks = plan_video(source, decoder.index(source), job.grid)
    found = (item for task in tasks for item in decoder.decode(task, 1))
    clips = (item for item in found if isinstance(item, ClipPixels))
    return list(islice(clips, max(1, MOST_FED // job.grid.length)))


def tight_loop(
    forward: Callable[[], Any], frames: int, batch: int, precision: Any, device: str
) -> float:
    """Frames per second of `forward`, on a batch each, until at least `frames` are done."""
    import torch

    from pipeline.analyzers.precision import autocast

    def once() -> None:
        with autocast(precision, device):
            forward()

    def wait() -> None:
        if device != "cpu":
            torch.cuda.synchronize()

    batches = -(-frames // batch)
    with torch.inference_mode():
        once()
        wait()
        started = time.perf_counter()
        for _ in range(batches):
            once()
        wait()
    return batches * batch / (time.perf_counter() - started)
