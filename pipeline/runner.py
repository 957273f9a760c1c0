"""The pipeline, top to bottom: discover, index, plan, decode, analyze, collect, commit."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.config import Config, load_config
from pipeline.errors import (
    EXIT_ABORTED,
    EXIT_FAILURES,
    EXIT_OK,
    FrameledgerError,
    RunAborted,
    UsageError,
)
from pipeline.run_record import check_run_id, new_run_id
from pipeline.storage.uris import NO_BUCKET, is_remote, names_bucket
from pipeline.summary import RunSummary, summarize

if TYPE_CHECKING:
    from pipeline.engine.job import Job
    from pipeline.engine.stats import RunStats
    from pipeline.engine.tracker import Tracker
    from pipeline.progress import Progress
    from pipeline.resume import Candidate, Corpus


def run(
    config: Config | str | Path,
    inputs: list[str] | tuple[str, ...] = (),
    output: str | Path = "",
    *,
    engine: Literal["ray", "local"] | None = None,
    address: str | None = None,
    limit: int | None = None,
    retry_failed: bool = False,
    progress: Progress | None = None,
    run_id: str | None = None,
) -> RunSummary:
    """Process what is due of `inputs` and commit it to the tables in `output`.

    Args:
        config: a Config, or the path of a YAML file.
        inputs: files, folders, globs, lists (see `sources.discover`); the configuration's own
            where none are given.
        output: folder of the tables, or s3://bucket/prefix (gs://, az://); made if missing. What
            it holds already is not done again.
        engine: overrides the configuration's.
        address: a Ray cluster. Without one, a Ray that this process has already started is used
            (and left running), else RAY_ADDRESS, else a Ray of its own on this machine.
        limit: take at most this many videos that need work.
        retry_failed: also try again what earlier runs gave up.
        progress: is shown the run's figures while it goes on.
        run_id: the run's name in the table `runs`; one is made where none is given.

    Returns the summary. Raises a FrameledgerError with a message for the user where the run
    cannot begin or go on; a video that fails is a `failures` row, not an error.
    """
    from pipeline.engine.stats import RunStats
    from pipeline.engine.tracker import Tracker
    from pipeline.ledger.leases import Lease
    from pipeline.ledger.store import Store

    job = make_job(config, str(output), engine, run_id)
    stats = RunStats()
    if job.config.decode.backend == "opencv":
        note = "decode.backend = opencv: frames are numbered as OpenCV delivers them, not exactly"
        stats.note(note)
    lease = Lease(job.output, job.run_id, ",".join(job.by_fingerprint()))
    watch = progress.watching(stats) if progress is not None else nullcontext()
    with watch, closing(lease), _stores_told():
        if Store(job.output).is_begun:
            # Before the books are read: nobody takes rows away that they speak of.
            lease.open()
            take_over(job.output, job.run_id)
        corpus = open_corpus(job, inputs, retry_failed=retry_failed)
        if retry_failed and _take_back_quarantined(job, corpus, limit, stats):
            corpus = open_corpus(job, inputs, retry_failed=True)
        tracker = Tracker(corpus, stats, limit, lease)
        first = tracker.first_due()
        if first is not None:
            with _recorded(job, corpus, stats):
                _work(job, tracker, first, address)
        if corpus.counts:
            # While the lease is held: what is superseded may go once it is not.
            _make_current(job)
    left_out = corpus.discovery.note()
    if not corpus.counts:
        raise UsageError(nothing_in(corpus))
    if left_out:
        stats.note(left_out)
    return summarize(job, tracker)


def _work(job: Job, tracker: Tracker, first: Candidate, address: str | None) -> None:
    if job.config.engine.name == "local":
        from pipeline.engine.local import run_local

        run_local(job, tracker, first)
    else:
        from pipeline.engine.tokens import prepare_token

        prepare_token(address)
        from pipeline.engine.ray import run_ray

        run_ray(job, tracker, first, address)


@contextmanager
def _stores_told() -> Iterator[None]:
    """A store that is away or refuses, as the end of the run."""
    from pipeline.storage.objects import StoreError

    try:
        yield
    except StoreError as error:
        raise RunAborted(f"{error}; what was committed is kept: run this again") from error


@contextmanager
def _recorded(job: Job, corpus: Corpus, stats: RunStats) -> Iterator[None]:
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
        )
        # Where the store cannot be written any more, the first error is the one to tell.
        with suppress(FrameledgerError) if error else nullcontext():
            log.write(ended)


def _make_current(job: Job) -> None:
    """What this run wanted is what readers see, also where nothing was left to do for it."""
    from pipeline.ledger.analyses import record_analyses
    from pipeline.ledger.store import Store

    store = Store(job.output)
    if all(store.exists(analysis.table) for analysis in job.analyses):
        record_analyses(store, job.analyses, job.run_id)


def take_over(output: str, run_id: str) -> None:
    """Put right what runs that died have left behind, before anything is planned."""
    from pipeline.ledger.adopt import adopt, has_left
    from pipeline.ledger.leases import dead_runs, forget, live_runs
    from pipeline.ledger.reopen import finish_reopening
    from pipeline.ledger.store import Store

    if has_left(output):
        adopt(output, live_runs(output))
    finish_reopening(Store(output), run_id)
    for dead in dead_runs(output):
        forget(output, dead)


def _take_back_quarantined(job: Job, corpus: Corpus, limit: int | None, stats: RunStats) -> bool:
    """Take back shards of which clips had been given up, to be tried again.

    Returns whether the corpus has been looked through, and is to be opened anew.
    """
    from pipeline.ledger.reopen import find_reopening, not_redone, reopen
    from pipeline.ledger.store import Store

    lost = corpus.quarantined(limit)
    store = Store(job.output)
    what = find_reopening(store, job.analyses[0].fingerprint, lost) if lost else None
    if what is not None:
        others = not_redone(store, what, job.by_fingerprint())
        if others:
            stats.note(
                f"quarantined clips are not tried again: {', '.join(others)} has looked at the "
                "same frames, and is not in this configuration"
            )
        elif not reopen(store, what, job.run_id):
            stats.note("quarantined clips wait for a --retry-failed without another run beside it")
    return bool(corpus.counts)


def make_job(
    config: Config | str | Path, output: str, engine: str | None = None, run_id: str | None = None
) -> Job:
    """The run's identity, with its models found and its output checked."""
    from pipeline.engine.job import Job, analyses_of

    if not isinstance(config, Config):
        config = load_config(config)
    if engine is not None:
        chosen = config.engine.model_copy(update={"name": engine})
        config = config.model_copy(update={"engine": chosen})
    output = check_output(output)
    return Job(check_run_id(run_id or new_run_id()), config, output, analyses_of(config))


def check_output(output: str) -> str:
    """An output as an absolute path or a URI. Refuses what cannot be a folder of tables."""
    from pipeline.ledger.store import check_root

    if not output:
        raise UsageError("no output given: name a folder, or s3://BUCKET/PREFIX, with --output")
    if is_remote(output) and not names_bucket(output):
        raise UsageError(f"output {output}: {NO_BUCKET}")
    found = check_root(os.path.expanduser(output))
    if os.path.lexists(found) and not os.path.isdir(found):
        raise UsageError(f"output {output}: is a file; name a folder")
    return found


def open_corpus(
    job: Job, inputs: list[str] | tuple[str, ...], *, retry_failed: bool = False
) -> Corpus:
    """The inputs, held against what the output already has."""
    from pipeline.ledger.books import Books
    from pipeline.resume import Corpus
    from pipeline.sources.discover import check_inputs

    chosen = tuple(str(name) for name in inputs) or job.config.inputs
    if not chosen:
        raise UsageError("no input given: name files, folders, globs or lists")
    check_inputs(chosen)
    return Corpus(job, chosen, Books(job.output), retry_failed)


def nothing_in(corpus: Corpus) -> str:
    """What to say of inputs that hold no video at all."""
    left_out = corpus.discovery.note()
    more = f"; {left_out}" if left_out else ""
    return f"no videos in {', '.join(corpus.inputs)}: nothing to do{more}"
