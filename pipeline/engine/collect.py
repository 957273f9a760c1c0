"""Results to rows to commits: the ledger's writer with what the driver wants to hear of it."""

from __future__ import annotations

from pipeline.engine.course import Report
from pipeline.engine.job import Job
from pipeline.engine.stats import Ack
from pipeline.errors import VideoError
from pipeline.ledger.commit import LedgerWriter
from pipeline.records import Parcel, ShardEnd, ShardTask, VideoIndex


class Collector:
    """Buffers clip results, turns whole shards into rows and commits them by size or time."""

    def __init__(self, job: Job, part: int = 0) -> None:
        """`part`: its number among the collectors of the run."""
        commit = job.config.commit
        self._writer = LedgerWriter(
            job.output,
            run_id=job.run_id,
            analyses=job.by_fingerprint(),
            commit_bytes=commit.bytes,
            commit_seconds=commit.seconds,
            part=part,
            books=job.books,
        )
        self._said = (0, 0.0)
        self._ends: dict[str, ShardEnd] = {}

    def index(self, index: VideoIndex) -> None:
        """Keep a video's index, so that no later run has to read the video for it."""
        self._writer.add_index(index)

    def begin(self, task: ShardTask, attempt: int) -> None:
        """Results of `task` will come; those of an earlier attempt are dropped."""
        self._writer.begin(task, attempt)

    def add(self, parcel: Parcel) -> Ack:
        """Take results of one shard. Its clips and its end may come in any order.

        Raises VideoError("collect", ...) where the shard does not add up, RunAborted where the
        store cannot be written.
        """
        ack = Ack(parcel[0].task_key, parcel[0].attempt)
        ack.unknown = not self._writer.awaits(ack.task_key, ack.attempt)
        for item in parcel:
            try:
                if isinstance(item, ShardEnd):
                    self._ends[item.task_key] = item
                    whole = self._writer.add_end(item)
                else:
                    ack.count(item)
                    whole = self._writer.add_result(item)
            except ValueError as error:
                raise VideoError("collect", str(error)) from error
            if whole is not None:
                ack.ended = self._ends.pop(item.task_key)
                ack.rows = whole.rows
        self._writer.flush_if_due()
        ack.commits, ack.commit_s = self._new_commits()
        return ack

    def discard(self, task_key: str, attempt: int) -> None:
        """An attempt has failed: forget what it sent."""
        self._ends.pop(task_key, None)
        self._writer.discard(task_key, attempt)

    def record(self, report: Report, number: int = 0) -> None:
        """Keep failures and outcomes; they are committed after the rows they speak of.

        Args:
            number: counts the reports of the run from 1; one that comes twice is taken once.
        """
        self._writer.add_report(report.failures, report.outcomes, number)
        self._writer.flush_if_due()

    def tick(self) -> None:
        """Commit what has waited long enough, though nothing new comes."""
        self._writer.flush_if_due()

    def flush(self) -> None:
        """Commit everything that is whole."""
        self._writer.flush()

    def close(self) -> tuple[int, float]:
        """Commit everything that is whole. Returns (commits, seconds in commits) that no
        acknowledgement has told of."""
        self._writer.close()
        return self._new_commits()

    def _new_commits(self) -> tuple[int, float]:
        stats, before = self._writer.stats, self._said
        self._said = stats.commits, stats.commit_s
        return stats.commits - before[0], stats.commit_s - before[1]
