"""The actors of a run: the stages of `engine.worker` and `engine.collect`, each in a process.

Every process of a run imports this: what writes the tables is imported by what writes them alone.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

import ray

from pipeline.clip_pixels import ClipPixels
from pipeline.engine.job import Job
from pipeline.engine.worker import AnalyzerGroup, Decoder, FusedWorker
from pipeline.errors import FrameledgerError, VideoError
from pipeline.records import Parcel, ShardEnd, ShardTask, Source, VideoIndex

if TYPE_CHECKING:
    from pipeline.engine.course import Report
    from pipeline.engine.stats import Ack

Loaded = TypeVar("Loaded")


class _Starting(Generic[Loaded]):
    """An actor that is there at once, and loads what it needs when told to.

    A first answer thus shows that Ray has found a place for it and has started its process: from
    then on it is known who is slow (see `engine.roster`).
    """

    def __init__(self, job: Job, device: str, threads: int) -> None:
        """`threads`: of torch, where models run on the CPU."""
        self._job, self._device, self._threads = job, device, threads
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
        worker = FusedWorker(self._job, self._device, self._threads)
        worker.setup()
        return worker

    def index(self, source: Source) -> VideoIndex:
        return self._there().index(source)

    def stream(self, task: ShardTask, attempt: int, _together: int) -> Iterator[Parcel]:
        yield from self._there().process(task, attempt)


@ray.remote
class DecoderActor(_Starting[Decoder]):
    """Decodes only; its clips go through the object store."""

    def _load(self) -> Decoder:
        return Decoder(self._job, self._device)

    def index(self, source: Source) -> VideoIndex:
        return self._there().index(source)

    def stream(
        self, task: ShardTask, attempt: int, together: int
    ) -> Iterator[tuple[ClipPixels, ...] | Parcel]:
        """Clips, `together` at a time, then the end alone."""
        clips: list[ClipPixels] = []
        for item in self._there().decode(task, attempt):
            if isinstance(item, ClipPixels):
                clips.append(item)
            if clips and (len(clips) == together or isinstance(item, ShardEnd)):
                yield tuple(clips)
                clips = []
            if isinstance(item, ShardEnd):
                yield (item,)


@ray.remote
class AnalyzerActor(_Starting[AnalyzerGroup]):
    """Holds the models; is handed clips as read-only views of the object store."""

    def _load(self) -> AnalyzerGroup:
        group = AnalyzerGroup(self._job, self._device, self._threads)
        group.setup()
        return group

    @ray.method(num_returns=2)
    def analyze(
        self, clips: tuple[ClipPixels, ...], analyses: tuple[str, ...]
    ) -> tuple[Parcel, None]:
        """What there is to say of clips, and beside it what says only that it went well: the driver
        looks at that, and not at results that may lie on another node."""
        group = self._there()
        return tuple(group.analyze(clip, analyses) for clip in clips), None


@ray.remote
class CollectorActor:
    """A writer of the tables."""

    def __init__(self, job: Job, part: int) -> None:
        from pipeline.engine.collect import Collector

        self._collector = Collector(job, part)

    @ray.method(max_task_retries=-1)
    def ready(self) -> bool:
        return True

    def index(self, index: VideoIndex) -> None:
        self._collector.index(index)

    def begin(self, task: ShardTask, attempt: int) -> None:
        self._collector.begin(task, attempt)

    def add(self, *parcels: Parcel) -> list[Ack | VideoError]:
        """What there is to say of each: that of one does not keep the others from being heard."""
        return [self._add(parcel) for parcel in parcels]

    def _add(self, parcel: Parcel) -> Ack | VideoError:
        try:
            return self._collector.add(parcel)
        except VideoError as error:
            return error
        except FrameledgerError:
            raise
        except Exception as error:
            line = " ".join(str(error).split())[:300]
            return VideoError("collect", f"{type(error).__name__}: {line}", systemic=True)

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
