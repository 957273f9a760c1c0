"""What the actors do, without actors: index, decode, analyze. Imports no ray."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import psutil

from pipeline.analyzers.base import Analyzer
from pipeline.analyzers.device import is_device_lost
from pipeline.clip_pixels import ClipPixels, PixelFormat, Pixels
from pipeline.engine.job import Job
from pipeline.errors import DeviceLost, FrameledgerError, VideoError
from pipeline.records import ClipResult, Parcel, ShardEnd, ShardTask, Source, VideoIndex
from pipeline.sources.decode import BufferPool, decode_shard, load_decoder
from pipeline.sources.index import index_video
from pipeline.sources.memory_cap import MemoryCap, max_memory

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.analyzers.frames import FrameBatch
    from pipeline.sources.frame_cache import FrameCache

PARCEL_S = 0.5
PARCEL_BYTES = 2**20
"""Results are sent after so long, or so many: seldom enough to cost nothing, often enough for
progress to be seen and for memory to stay small."""


_View: TypeAlias = "list[tuple[np.ndarray, FrameBatch]]"

WARM_UP_SIZE = (360, 640)

_PROCESS = psutil.Process()


class Decoder:
    """Indexes videos and decodes shards.

    Args:
        device: where the analyzers are.
        holds_gpu: they are in this process. CUDA takes address space as it likes: no cap then.
        cached: the frame cache, where the configuration has one, is read and filled. Without it the
            same pictures are made.
    """

    def __init__(
        self, job: Job, device: str, *, holds_gpu: bool = False, cached: bool = True
    ) -> None:
        from pipeline.analyzers.registry import build_analyzers

        self._job = job
        self._config = job.config.decode
        self._side = job.config.cache.height if job.config.cache is not None else None
        small = {analysis.name for analysis in job.analyses if analysis.takes_scaled}
        takers = [member for member in build_analyzers(job.config) if member.name not in small]
        self._wanted = _wanted(takers, device)
        self._cache = _frame_cache(job) if cached else None
        load_decoder(self._config)  # What its libraries take is no video's doing.
        self._cap = MemoryCap(None if holds_gpu else max_memory(job.config))

    def index(self, source: Source) -> VideoIndex:
        self._cap.begin()
        with self._cap.applied():
            return index_video(source, self._config)

    def decode(
        self, task: ShardTask, attempt: int, pool: BufferPool | None = None
    ) -> Iterator[ClipPixels | ShardEnd]:
        """Yield the shard's clips and its end: see `decode_shard`."""
        whole = self._job.takes_whole(task.analyses)
        wanted = self._wanted if whole else None
        if self._cache is None:
            yield from self._decoded(task, attempt, pool, wanted)
            return
        decode = partial(self._decoded, task, attempt, pool, wanted)
        yield from self._cache.items(task, attempt, decode, read=not whole)

    def _decoded(
        self, task: ShardTask, attempt: int, pool: BufferPool | None, wanted: PixelFormat | None
    ) -> Iterator[ClipPixels | ShardEnd]:
        self._cap.begin()
        items = decode_shard(task, attempt, self._config, wanted, pool, self._side)
        while True:
            with self._cap.applied():
                item = next(items, None)
            if item is None:
                return
            yield item


def _wanted(takers: list[Analyzer], device: str) -> PixelFormat:
    """Half the bytes where the device can turn them into RGB, RGB where FFmpeg does it better.

    Decided by the configuration, not by what is due, so that a resumed run sees the same pixels
    as one that was never stopped.

    Args:
        takers: those that are given whole pictures.
    """
    if device == "cuda":
        return "yuv420p"
    return "rgb24" if any(one.pixel_format == "rgb24" for one in takers) else "yuv420p"


def _frame_cache(job: Job) -> FrameCache | None:
    from pipeline.engine.job import FRAMES_SEMANTICS
    from pipeline.sources.frame_cache import FrameCache

    if job.config.cache is None:
        return None
    grid = {"sampling": job.grid.sampling, "semantics": FRAMES_SEMANTICS}
    return FrameCache(job.config.cache, grid, job.config.decode.backend)


class AnalyzerGroup:
    """All analyzers of a run on one device, sharing each clip's pixels."""

    def __init__(self, job: Job, device: str, threads: int) -> None:
        from pipeline.analyzers.registry import build_analyzers

        self._device = device
        self._threads = threads
        names = {analysis.name: analysis.fingerprint for analysis in job.analyses}
        self._members: dict[str, Analyzer] = {
            names[member.name]: member for member in build_analyzers(job.config)
        }
        self._small = {one.fingerprint for one in job.analyses if one.takes_scaled}
        self._one_at_a_time = threading.Lock()

    def setup(self) -> None:
        """Load every model. Raises ConfigError where one cannot be."""
        if any(member.pixel_format == "rgb24" for member in self._members.values()):
            import torch

            torch.set_num_threads(self._threads)
        for member in self._members.values():
            member.setup(self._device)
            if self._device != "cpu":
                warm_up(member)

    def analyze(self, clip: ClipPixels, analyses: tuple[str, ...]) -> ClipResult:
        """Run the analyzers that are due on the frames that the clip owns.

        May be called from two threads: pixels are then copied to a GPU while the clip before them
        is computed. Raises VideoError("analyze", reason) with the analyzer's name where one fails.
        """
        from pipeline.analyzers.frames import FrameBatch

        due = self._due(analyses)
        views = {
            scaled: [(at, FrameBatch(pixels)) for at, pixels in clip.owned(scaled=scaled)]
            for scaled in (False, True)
        }
        for scaled, parts in views.items():
            takers = (self._members[name] for name in due if (name in self._small) == scaled)
            if any(member.pixel_format == "rgb24" for member in takers):
                for _, frames in parts:
                    self._upload(frames)
        with self._one_at_a_time:
            return self._analyze(clip, views, due)

    def _upload(self, frames: FrameBatch) -> None:
        from pipeline.analyzers.batching import is_out_of_memory

        try:
            frames.upload(self._device)
        except Exception as error:
            # No room beside the clip that is computed: it is copied when its turn comes.
            if not is_out_of_memory(error):
                raise

    def _due(self, analyses: tuple[str, ...]) -> list[str]:
        return [name for name in analyses if name in self._members]

    def _analyze(self, clip: ClipPixels, views: dict[bool, _View], due: list[str]) -> ClipResult:
        """`views`: the whole pictures (False) and the small ones (True), as far as there are."""
        import pyarrow as pa

        tables: dict[str, list[pa.Table]] = {name: [] for name in due}
        spent = {self._members[name].name: 0.0 for name in tables}
        positions, sizes = [], []
        for part_positions, frames in views[False] or views[True]:
            positions.append(part_positions)
            size = np.array([frames.pixels.displayed], dtype=np.int32)
            sizes.append(np.repeat(size, len(frames), axis=0))
        for name in tables:
            started = time.perf_counter()
            for part_positions, frames in views[name in self._small]:
                rows = self._run(self._members[name], frames)
                local = rows.column("local").to_numpy()
                rows = rows.drop_columns("local")
                rows = rows.append_column("position", pa.array(part_positions[local]))
                tables[name].append(rows)
            spent[self._members[name].name] += time.perf_counter() - started
        return ClipResult(
            task_key=clip.task_key,
            attempt=clip.attempt,
            clip=clip.clip,
            positions=np.concatenate(positions) if positions else np.empty(0, np.int64),
            sizes=np.concatenate(sizes) if sizes else np.empty((0, 2), np.int32),
            rows={name: pa.concat_tables(parts) for name, parts in tables.items() if parts},
            decode_s=clip.decode_s,
            analyze_s=spent,
            steps_s=self._steps(due),
            host_bytes=_PROCESS.memory_info().rss,
            device_bytes=self._device_bytes(),
            notes=tuple(self._drained()),
        )

    def _steps(self, due: list[str]) -> dict[str, float]:
        return {
            f"{member.name}.{step}": seconds
            for member in (self._members[name] for name in due)
            for step, seconds in member.steps.drain().items()
        }

    def _device_bytes(self) -> int:
        if self._device == "cpu":
            return 0
        import torch

        return int(torch.cuda.max_memory_allocated())

    def _drained(self) -> Iterator[str]:
        for member in self._members.values():
            yield from member.notes
            member.notes.clear()

    @staticmethod
    def _run(member: Analyzer, frames: FrameBatch) -> pa.Table:
        try:
            return member.analyze(frames)
        except FrameledgerError:
            raise
        except Exception as error:
            # Whatever a model raises is a failure of these frames, with its name on it; the
            # engine decides whether to try again.
            line = " ".join(str(error).split())[:500]
            kind = DeviceLost if is_device_lost(error) else VideoError
            raise kind("analyze", f"{member.name}: {type(error).__name__}: {line}") from error


def warm_up(member: Analyzer) -> None:
    """Run a model once on a black frame: a GPU loads its kernels on first use, which would count
    as the speed of the first batches."""
    from pipeline.analyzers.frames import FrameBatch

    black = np.zeros((1, *WARM_UP_SIZE, 3), dtype=np.uint8)
    member.analyze(FrameBatch(Pixels(black, "rgb24", WARM_UP_SIZE[1], WARM_UP_SIZE[0])))
    member.steps.drain()


class FusedWorker:
    """A decoder and its analyzers in one process: pixels never move."""

    def __init__(self, job: Job, device: str, threads: int, *, cached: bool = True) -> None:
        self._decoder = Decoder(job, device, holds_gpu=device == "cuda", cached=cached)
        self._group = AnalyzerGroup(job, device, threads)
        self._pool = BufferPool()

    def setup(self) -> None:
        self._group.setup()

    def index(self, source: Source) -> VideoIndex:
        return self._decoder.index(source)

    def process(self, task: ShardTask, attempt: int) -> Iterator[Parcel]:
        """Yield a ClipResult for every clip of the shard, and last its ShardEnd, in parcels.

        After a failed attempt every clip is a parcel: where it fails again is then seen.
        """
        parcel: list[ClipResult | ShardEnd] = []
        nbytes, since = 0, time.perf_counter()
        for item in self._decoder.decode(task, attempt, self._pool):
            if isinstance(item, ShardEnd):
                parcel.append(item)
                break
            result = self._group.analyze(item, task.analyses)
            self._pool.give_back(item)
            parcel.append(result)
            nbytes += result.nbytes
            long_enough = time.perf_counter() - since > PARCEL_S
            if attempt > 1 or nbytes > PARCEL_BYTES or long_enough:
                yield tuple(parcel)
                parcel, nbytes, since = [], 0, time.perf_counter()
        yield tuple(parcel)
