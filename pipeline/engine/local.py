"""The same stages in one process, one after another: for tests, debugging and small corpora."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import TypeVar

from pipeline.engine.collect import Collector
from pipeline.engine.job import Job
from pipeline.engine.sizing import local_device
from pipeline.engine.tracker import Tracker
from pipeline.engine.worker import FusedWorker
from pipeline.errors import FrameledgerError, VideoError
from pipeline.records import Failure, ShardTask
from pipeline.resume import Candidate

T = TypeVar("T")


def run_local(job: Job, tracker: Tracker) -> None:
    """Work everything that is due. Models are loaded when the first video needs them."""
    stats = tracker.stats
    stats.engine, stats.placement = "local", "fused"
    first = next(tracker.due(), None)
    if first is None:
        return  # Nothing is due: write nothing, load nothing.
    worker = FusedWorker(job, local_device(job.config), threads=_all_threads())
    worker.setup()
    collector = Collector(job)
    stats.first_work_at = time.perf_counter()
    try:
        for candidate in chain([first], tracker.due()):
            for task in _tasks(candidate, worker, tracker, collector):
                _work(task, job, worker, tracker, collector)
    finally:
        # Also on Ctrl-C: whole shards are kept.
        stats.commits, stats.commit_s = collector.flush()


def _tasks(
    candidate: Candidate, worker: FusedWorker, tracker: Tracker, collector: Collector
) -> list[ShardTask]:
    source = candidate.source
    if candidate.failure is not None:
        collector.record(tracker.unreadable(source, candidate.failure))
        return []
    index = tracker.known_index(candidate)
    if index is None:
        try:
            index = _as_video_errors(partial(worker.index, source), "index")
        except VideoError as error:
            failure = Failure(source.uri, error.stage, error.reason, stamp=source.stamp)
            collector.record(tracker.unreadable(source, failure))
            return []
        collector.index(index)
    tasks, report = tracker.begin(source, index)
    collector.record(report)
    return tasks


def _work(
    task: ShardTask, job: Job, worker: FusedWorker, tracker: Tracker, collector: Collector
) -> None:
    attempts = job.config.engine.attempts
    for attempt in range(1, attempts + 1):
        collector.begin(task, attempt)
        try:
            take = partial(next, worker.process(task, attempt), None)
            while parcel := _as_video_errors(take, "decode"):
                ack = collector.add(parcel)
                tracker.acknowledge(ack)
                if ack.ended is not None:
                    collector.record(tracker.shard_done(task, ack.ended))
            return
        except VideoError as error:
            collector.discard(task.key, attempt)
            # A file that cannot be decoded will not be the next time; a model may.
            if error.stage == "decode" or attempt == attempts:
                report = tracker.shard_failed(task, error.stage, error.reason, attempt)
                collector.record(report)
                return
            tracker.stats.retries += 1


def _as_video_errors(work: Callable[[], T], stage: str) -> T:
    """Whatever else goes wrong with a video is its failure and not the run's end, as with Ray."""
    try:
        return work()
    except FrameledgerError:
        raise
    except Exception as error:
        line = " ".join(str(error).split())[:300]
        raise VideoError(stage, f"{type(error).__name__}: {line}") from error


def _all_threads() -> int:
    import os

    with suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
