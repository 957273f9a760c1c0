"""What an output keeps of a run: that it has begun, how it ended, and what it wanted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.errors import EXIT_ABORTED, EXIT_OK, FrameledgerError
from pipeline.summary import summarize

if TYPE_CHECKING:
    from pipeline.engine.job import Job
    from pipeline.engine.stats import RunStats
    from pipeline.ledger.runs import StageTimes
    from pipeline.resume import Corpus

_COUNTS = (
    "videos_ok",
    "videos_partial",
    "videos_failed",
    "videos_done_before",
    "shards",
    "frames",
    "retries",
    "steady_s",
    "total_s",
)
"""What `RunSummary` and `RunRecord` both have."""


@contextmanager
def recorded(job: Job, corpus: Corpus, stats: RunStats) -> Iterator[None]:
    """Keep in the table `runs` that the run has begun, and how it ended."""
    from pipeline.ledger.runs import RunLog, RunRecord

    log = RunLog(job.output)
    record = RunRecord(
        run_id=job.run_id,
        started_at=log.now(),
        config=job.config.model_dump_json(),
        inputs=corpus.inputs,
        analyses=tuple(analysis.fingerprint for analysis in job.wanted),
    )
    log.write(record)
    code, error = EXIT_OK, ""
    try:
        yield
        code = summarize(job, stats).exit_code
    except FrameledgerError as stopped:
        code, error = stopped.exit_code, str(stopped)
        raise
    except BaseException as stopped:
        code, error = EXIT_ABORTED, type(stopped).__name__
        raise
    finally:
        came_to = summarize(job, stats)
        ended = replace(
            record,
            ended_at=log.now(),
            exit_code=code,
            error=error,
            worked=tuple(sorted(stats.worked)),
            **{name: getattr(came_to, name) for name in _COUNTS},
            stages=json.dumps(_stages(stats)),
        )
        # Where the store cannot be written any more, the first error is the one to tell.
        with suppress(FrameledgerError) if error else nullcontext():
            log.write(ended)


def _stages(stats: RunStats) -> StageTimes:
    analyze_s = sum(stats.analyze_s.values())
    return {
        "startup_s": stats.startup_s if stats.first_work_at else 0.0,
        "decode_s": stats.decode_s,
        "analyze_s": dict(stats.analyze_s),
        "wait_s": max(0.0, stats.decoder_s + stats.analyzer_s - stats.decode_s - analyze_s),
        "commit_s": stats.commit_s,
        "track_s": stats.track_s,
    }


def make_current(job: Job) -> None:
    """What this run wanted is what readers see, also where nothing was left to do for it."""
    from pipeline.ledger.analyses import record_analyses
    from pipeline.ledger.store import Store

    store = Store(job.output)
    if all(store.exists(analysis.table) for analysis in job.wanted):
        record_analyses(store, job.wanted, job.run_id)
