"""Which clip length and batch size are fast on this machine: `frameledger profile`.

One process, one video, no tables: clips of each length are decoded, and each analyzer runs on
them with each batch size. What a run comes to is bounded by the slower of the two: decoders in
parallel, one per CPU, and the models.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.clip_pixels import ClipPixels
from pipeline.config import Config
from pipeline.errors import UsageError, VideoError
from pipeline.records import Failure, ShardTask, Source, VideoIndex

if TYPE_CHECKING:
    from pipeline.engine.job import Job

LENGTHS = (8, 16, 32, 64)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
MOST_FRAMES = 128
"""Frames decoded for each length; of these, models see what `SECONDS` allow."""
SECONDS = 4.0
"""Spent on one batch size of one analyzer, at the least one clip after a first that warms up."""
WORTH = 1.05
"""A larger clip or batch is recommended where it is faster by this factor."""


@dataclass(frozen=True)
class Trial:
    """One clip length with one batch size."""

    length: int
    batch: int | None
    """None for an analyzer that has no batches."""
    decode: float
    """Frames per second of one decoder."""
    analyze: dict[str, float]
    """Frames per second of each analyzer alone."""
    memory_bytes: int
    """Peak of the device, or private memory of this process on a CPU."""

    @property
    def models(self) -> float:
        """Frames per second of all analyzers after one another."""
        spent = sum(1 / rate for rate in self.analyze.values())
        return 1 / spent if spent else float("inf")


@dataclass
class Profile:
    """All trials, and what they come to."""

    device: str
    decoders: int
    fused: bool
    """Decoders and models share the CPUs."""
    trials: list[Trial] = field(default_factory=list)

    def run_rate(self, trial: Trial) -> float:
        """Frames per second to expect of a run."""
        if self.fused:
            per_frame = 1 / trial.decode + (1 / trial.models if trial.analyze else 0.0)
            return self.decoders / per_frame if trial.analyze else self.decoders * trial.decode
        return min(self.decoders * trial.decode, trial.models)

    @property
    def best(self) -> Trial:
        """The smallest clip and batch that no larger one beats by `WORTH`."""
        fastest = max(self.run_rate(trial) for trial in self.trials)
        good = [trial for trial in self.trials if self.run_rate(trial) * WORTH >= fastest]
        return min(good, key=lambda trial: (trial.length * (trial.batch or 1), trial.length))

    @property
    def limit(self) -> str:
        best = self.best
        decode = self.decoders * best.decode
        if not best.analyze or decode <= best.models:
            return f"decoding: {self.decoders} decoders together {decode:,.0f} frames/s"
        slowest = min(best.analyze, key=lambda name: best.analyze[name])
        return f"the models, most of it the {slowest}: {best.models:,.0f} frames/s"


def profile(config: Config, video: str) -> Iterator[Trial | Profile]:
    """Yield every trial as it is done, then the Profile of them all; without a frame cache.

    Raises UsageError where `video` is none, ConfigError where a model cannot be loaded.
    """
    import os

    from pipeline.analyzers.registry import build_analyzers
    from pipeline.engine.sizing import local_device

    source, index = _video(config, video)
    device = local_device(config)
    members = build_analyzers(config)
    for member in members:
        member.setup(device)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    result = Profile(device, cpus or 1, fused=device == "cpu")
    batched = [member for member in members if hasattr(member, "batcher")]
    for length in LENGTHS:
        clips, decode = _decoded(config, source, index, length, device)
        sizes: list[int | None] = [b for b in BATCHES if b <= length] if batched else [None]
        for size in sizes:
            for member in batched:
                member.batcher.fix(size)
            _reset_peak(device)
            rates = {member.name: _rate(member, clips) for member in members}
            trial = Trial(length, size, decode, rates, _peak(device))
            result.trials.append(trial)
            yield trial
        if sum(len(clip.positions) for clip in clips) < length:
            break  # The video has no longer clips.
    yield result


def _video(config: Config, video: str) -> tuple[Source, VideoIndex]:
    from pipeline.sources.discover import discover
    from pipeline.sources.index import index_video

    found = next(discover([video]), None)
    if found is None:
        raise UsageError(f"no videos in {video}: nothing to profile with")
    if isinstance(found, Failure):
        raise UsageError(f"{found.uri}: {found.reason}")
    try:
        return found, index_video(found, config.decode)
    except VideoError as error:
        raise UsageError(f"{found.uri}: {error.reason}") from None


def _decoded(
    config: Config, source: Source, index: VideoIndex, length: int, device: str
) -> tuple[list[ClipPixels], float]:
    """Clips of this length, and frames per second of decoding them."""
    from pipeline.engine.worker import Decoder
    from pipeline.sources.decode import BufferPool

    job = _job(config, length)
    decoder = Decoder(job, device)
    clips: list[ClipPixels] = []
    frames, spent = 0, 0.0
    pool = BufferPool()
    for task in _tasks(job, source, index):
        for item in decoder.decode(task, 1, pool):
            if not isinstance(item, ClipPixels):
                continue
            clips.append(item)
            frames, spent = frames + len(item.positions), spent + item.decode_s
            if frames >= MOST_FRAMES:
                return clips, frames / spent
    return clips, frames / max(spent, 1e-9)


def _job(config: Config, length: int) -> Job:
    from pipeline.engine.job import Job

    clip = config.clip.model_copy(update={"length": length, "stride": None})
    return Job("profile", config.model_copy(update={"clip": clip, "cache": None}), "", ())


def _tasks(job: Job, source: Source, index: VideoIndex) -> list[ShardTask]:
    from pipeline.sources.plan import plan_video

    return plan_video(source, index, job.grid)


def _rate(member: Any, clips: list[ClipPixels]) -> float:
    from pipeline.analyzers.frames import FrameBatch

    batches = [pixels for clip in clips for _, pixels in clip.owned()]
    member.analyze(FrameBatch(batches[0]))
    started, frames = time.perf_counter(), 0
    for pixels in batches:
        member.analyze(FrameBatch(pixels))
        frames += len(pixels)
        if time.perf_counter() - started > SECONDS:
            break
    return frames / (time.perf_counter() - started)


def _reset_peak(device: str) -> None:
    if device != "cpu":
        import torch

        torch.cuda.reset_peak_memory_stats()


def _peak(device: str) -> int:
    if device != "cpu":
        import torch

        return int(torch.cuda.max_memory_allocated())
    import psutil

    return int(psutil.Process().memory_full_info().uss)
