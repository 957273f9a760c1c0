"""What an output keeps of a run: that it has begun, how it ended, and what it wanted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.errors import EXIT_ABORTED, EXIT_FAILURES, EXIT_OK, FrameledgerError

if TYPE_CHECKING:
    from pipeline.engine.job import Job
    from pipeline.engine.stats import RunStats
    from pipeline.ledger.runs import StageTimes
    from pipeline.resume import Corpus


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
        analyses=tuple(job.by_fingerprint()),
    )
    log.write(record)
    code, error = EXIT_OK, ""
    try:
        yield
        bad = stats.videos["partial"] + stats.videos["failed"]
        bad += stats.known_partial + stats.known_failed
        code = EXIT_FAILURES if bad else EXIT_OK
    except FrameledgerError as stopped:
        code, error = stopped.exit_code, str(stopped)
        raise
    except BaseException as stopped:
        code, error = EXIT_ABORTED, type(stopped).__name__
        raise
    finally:
        ended = replace(
            record,
            ended_at=log.now(),
            exit_code=code,
            error=error,
            worked=tuple(sorted(stats.worked)),
            videos_ok=stats.videos["ok"],
            videos_partial=stats.videos["partial"],
            videos_failed=stats.videos["failed"],
            videos_done_before=stats.skipped_done,
            shards=stats.shards,
            frames=stats.frames,
            retries=stats.retries,
            steady_s=stats.steady_s,
            total_s=time.perf_counter() - stats.started_at,
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
    }


def make_current(job: Job) -> None:
    """What this run wanted is what readers see, also where nothing was left to do for it."""
    from pipeline.ledger.analyses import record_analyses
    from pipeline.ledger.store import Store

    store = Store(job.output)
    if all(store.exists(analysis.table) for analysis in job.analyses):
        record_analyses(store, job.analyses, job.run_id)
