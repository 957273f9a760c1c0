"""The same stages in one process, one after another: for tests, debugging and small corpora.

What hangs or kills a process does so to this one: only the Ray engine can replace it.
"""

from __future__ import annotations

import time
from functools import partial

from pipeline.engine.breaker import Breaker
from pipeline.engine.cause import Cause, as_video_errors
from pipeline.engine.collect import Collector
from pipeline.engine.course import Course, Report
from pipeline.engine.job import Job
from pipeline.engine.lanes import Work
from pipeline.engine.sizing import all_threads, local_device
from pipeline.engine.worker import FusedWorker
from pipeline.errors import RunAborted, VideoError
from pipeline.records import Failure, VideoIndex
from pipeline.resume import Candidate


def run_local(job: Job, course: Course, first: Candidate) -> None:
    """Work `first` and everything that is due after it."""
    stats = course.stats
    stats.engine, stats.placement = "local", "fused"
    worker = FusedWorker(job, local_device(job.config), threads=all_threads())
    worker.setup()
    engine = _Local(job, course, worker)
    stats.first_work_at = time.perf_counter()
    stats.there(1, 0)
    candidate: Candidate | None = first
    try:
        while not course.exhausted:
            if candidate is not None:
                engine.work(candidate)
            else:
                engine.wait_for_others()
            candidate = course.next_due()
        engine.end()
    finally:
        # Also on Ctrl-C: whole shards are kept.
        stats.there(1, 0)
        stats.committed(*engine.collector.close())


class _Local:
    def __init__(self, job: Job, course: Course, worker: FusedWorker) -> None:
        self.collector = Collector(job)
        self._course = course
        self._worker = worker
        self._attempts = job.config.engine.attempts
        self._frames = job.analyses[0].fingerprint
        self._breaker = Breaker(job.config.engine.same_failures)

    def work(self, candidate: Candidate) -> None:
        """One video, from its index to its last shard."""
        source = candidate.source
        if candidate.failure is not None:
            self._record(self._course.unreadable(source, candidate.failure))
            return
        index = self._course.known_index(candidate)
        if index is None:
            index = self._index(candidate)
        if index is not None and not self._course.budget.is_up:
            tasks, report = self._course.begin(source, index)
            self._record(report)
            for task in tasks:
                if self._course.budget.is_up:
                    self._course.leave(task)
                    continue
                self._course.budget.begins(task.frame_count)
                self._shard(Work.of(task, self._attempts))

    def wait_for_others(self) -> None:
        """Nothing to do until another run has ended, which may wait for this one as well."""
        self._release()
        self.collector.flush()
        if self._course.lease is not None:
            self._course.lease.release()
        time.sleep(self._course.POLL_S)

    def end(self) -> None:
        self._release()

    def _record(self, report: Report) -> None:
        for one in self._breaker.sort(report):
            self.collector.record(one)

    def _release(self) -> None:
        for report in self._breaker.release():
            self.collector.record(report)

    def _index(self, candidate: Candidate) -> VideoIndex | None:
        source = candidate.source
        try:
            index = as_video_errors(partial(self._worker.index, source), "index")
        except VideoError as error:
            failure = Failure(
                source.uri,
                error.stage,
                error.reason,
                stamp=source.stamp,
                systemic=error.systemic,
            )
            self._record(self._course.unreadable(source, failure))
            return None
        self.collector.index(index)
        return index

    def _shard(self, work: Work) -> None:
        """Try a shard until it is whole, in part or not at all."""
        again: Work | None = work
        while again is not None:
            work, again = again, None
            number = 0
            self.collector.begin(work.task, work.attempt)
            take = partial(next, self._worker.process(work.task, work.attempt), None)
            try:
                while parcel := as_video_errors(take, "decode"):
                    ack = self.collector.add(parcel)
                    number += ack.clips
                    self._course.acknowledge(ack)
                    if ack.ended is not None:
                        self._release()
                        self._record(self._course.shard_done(work.task, ack.ended))
            except VideoError as error:
                cause = Cause.of(error)
                if cause.device_lost:
                    raise RunAborted(
                        f"{error.reason}: the GPU cannot be used any more by this process; run "
                        "again, or with --engine ray, which replaces such processes"
                    ) from error
                self.collector.discard(work.task.key, work.attempt)
                again = self._after(work, cause, number)

    def _after(self, work: Work, cause: Cause, number: int) -> Work | None:
        """What to try after an attempt that failed at its clip `number`; None: nothing more."""
        retry = work.after(cause, number, self._frames)
        if retry is None:
            failed = self._course.shard_failed(work.task, cause, max(1, work.trials.failed))
            self._record(failed)
        else:
            self._course.stats.retries += 1
        return retry
