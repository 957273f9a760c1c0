"""The pipeline, top to bottom: discover, index, plan, decode, analyze, collect, commit; track."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.config import Config
from pipeline.config_file import load_config
from pipeline.errors import (
    RunAborted,
    UsageError,
)
from pipeline.run_record import check_run_id, new_run_id
from pipeline.storage.uris import NO_BUCKET, is_remote, names_bucket
from pipeline.summary import RunSummary, summarize

if TYPE_CHECKING:
    from pipeline.engine.budget import Budget
    from pipeline.engine.course import Course
    from pipeline.engine.job import Job
    from pipeline.engine.stats import RunStats
    from pipeline.ledger.leases import Lease
    from pipeline.priority import Priority
    from pipeline.progress import Progress
    from pipeline.records import Failure
    from pipeline.resume import Candidate, Corpus
    from pipeline.tracks.video_work import Spread


def run(
    config: Config | str | Path,
    inputs: list[str] | tuple[str, ...] = (),
    output: str | Path = "",
    *,
    overrides: tuple[str, ...] = (),
    engine: Literal["ray", "local"] | None = None,
    address: str | None = None,
    limit: int | None = None,
    retry_failed: bool = False,
    budget_s: float | None = None,
    budget_frames: int | None = None,
    priority: Priority = "discovery",
    overlap: Literal["share", "leave"] = "share",
    report: str | Path | None = None,
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
        overrides: `KEY=VALUE` over a YAML file, such as `sampling.stride=4`.
        engine: overrides the configuration's.
        address: a Ray cluster. Without one, a Ray that this process has already started is used
            (and left running), else RAY_ADDRESS, else a Ray of its own on this machine.
        limit: take at most this many videos that need work.
        retry_failed: also try again what earlier runs gave up.
        budget_s: begin nothing more after so many seconds (see `engine.budget`).
        budget_frames: begin nothing more once so many sampled frames have been begun.
        priority: which videos come first (see `priority`).
        overlap: while another run works in the output, share the work with it, or leave it to it.
        report: folder for run.json and run.md, written however the run ends (see `account`).
        progress: is shown the run's figures while it goes on.
        run_id: the run's name in the table `runs`; one is made where none is given.

    Returns the summary. Raises a FrameledgerError with a message for the user where the run
    cannot begin or go on; a video that fails is a `failures` row, not an error.
    """
    from pipeline.account import Account
    from pipeline.engine.budget import Budget
    from pipeline.engine.stats import RunStats
    from pipeline.ledger.leases import Lease

    stats, budget = RunStats(), Budget(budget_s, budget_frames)
    with Account(report, stats, str(output)) as account:
        check_choices(engine, priority, overlap)
        if not isinstance(config, Config):
            config = load_config(config, overrides)
        account.config = config
        job = make_job(config, str(output), engine, run_id)
        account.run_id = job.run_id
        lease = Lease(job.output, job.run_id, ",".join(job.by_fingerprint()))
        watch = progress.watching(stats) if progress is not None else nullcontext()
        with watch, closing(lease), _stores_told():
            other = _begin(job, lease, overlap)
            if other:
                account.summary = summarize(job, stats, left_to=other)
            else:
                terms = _Terms(inputs, limit, retry_failed, priority, budget)
                course = _process(job, terms, stats, lease, address)
                account.summary = summarize(job, stats, course.problems)
    return account.summary


@dataclass(frozen=True)
class _Terms:
    """What a run takes up of a corpus, in which order, and how much of it."""

    inputs: Sequence[str]
    limit: int | None
    retry_failed: bool
    priority: Priority
    budget: Budget


def _begin(job: Job, lease: Lease, overlap: str) -> str:
    """Put right what runs that died have left. Returns another run that is at work, where the
    output is to be left to it."""
    from pipeline.ledger.alive import live_runs, said_of
    from pipeline.ledger.store import Store

    if not Store(job.output).is_begun:
        return ""
    others = live_runs(job.output) if overlap == "leave" else set()
    if not others:
        # Before the books are read: nobody takes rows away that they speak of.
        lease.open()
        if overlap == "leave":
            # Of two that begin in one moment, the first goes on.
            others = {other for other in live_runs(job.output) if other < job.run_id}
    if others:
        return said_of(job.output, min(others))
    take_over(job.output, job.run_id)
    return ""


def _process(job: Job, terms: _Terms, stats: RunStats, lease: Lease, address: str | None) -> Course:
    from pipeline.analyzers.registry import cache_notes
    from pipeline.engine.course import Course
    from pipeline.recording import make_current, recorded

    if job.config.decode.backend == "opencv":
        note = "decode.backend = opencv: frames are numbered as OpenCV delivers them, not exactly"
        stats.note(note)
    for note in cache_notes(job.config):
        stats.note(note)
    retry = terms.retry_failed
    corpus = open_corpus(job, terms.inputs, retry_failed=retry, priority=terms.priority)
    if retry and _take_back_quarantined(job, corpus, terms.limit, stats):
        corpus = open_corpus(job, terms.inputs, retry_failed=retry, priority=terms.priority)
    job = replace(job, books=corpus.books.versions)
    course = Course(corpus, stats, terms.limit, lease, terms.budget)
    first = course.first_due()
    busy = first is not None or bool(corpus.untracked)
    with recorded(job, corpus, stats) if busy else nullcontext():
        if first is not None:
            _work(job, course, first, address)
        course.problems += _track(job, terms, course, lease, address)
        course.count_left()
    known = corpus.tracks_failed - corpus.untracked - course.worked
    stats.tracks_failed += len(known)
    if not corpus.counts:
        raise UsageError(nothing_in(corpus))
    # While the lease is held: what is superseded may go once it is not.
    make_current(job)
    left_out = corpus.discovery.note()
    if left_out:
        stats.note(left_out)
    return course


def _work(job: Job, course: Course, first: Candidate, address: str | None) -> None:
    if job.config.engine.name == "local":
        from pipeline.engine.local import run_local

        run_local(job, course, first)
    else:
        from pipeline.engine.tokens import prepare_token

        prepare_token(address)
        from pipeline.engine.ray import run_ray

        run_ray(job, course, first, address)


def _track(
    job: Job, terms: _Terms, course: Course, lease: Lease, address: str | None
) -> list[Failure]:
    """Tracks of what the run has ended, and of what lacks nothing else."""
    from pipeline.tracks.track_pass import track_videos

    stats, backlog = course.stats, course.corpus.untracked - course.worked
    if job.tracks is None or not (course.worked or backlog):
        return []
    if job.looks_again:
        # All is committed, and this takes its time: who waits for these videos goes on.
        lease.release()
        if terms.limit is not None:
            kept = sorted(backlog)[: max(0, terms.limit - stats.videos_started)]
            stats.left.videos += len(backlog) - len(kept)
            backlog = set(kept)
    spread = _spread(job, address, stats)
    worked = course.worked
    retry = terms.retry_failed
    return track_videos(job, worked, backlog, terms.budget, stats, spread, lease, retry)


def _spread(job: Job, address: str | None, stats: RunStats) -> Spread:
    """What follows videos for their tracks."""
    from pipeline.engine.sizing import all_threads, local_device
    from pipeline.tracks.spreads import BOXES_HERE_S, follow_here, here_first

    if job.config.engine.name == "local":
        device = local_device(job.config) if job.looks_again else "cpu"
        return follow_here(job, device, all_threads())
    from pipeline.engine.tokens import prepare_token

    prepare_token(address)
    from pipeline.engine.track_actors import follow_on_ray

    on_ray = follow_on_ray(job, address, stats.say)
    if job.looks_again:
        return on_ray
    return here_first(follow_here(job, "cpu", all_threads()), on_ray, BOXES_HERE_S)


@contextmanager
def _stores_told() -> Iterator[None]:
    """A store that is away or refuses, as the end of the run."""
    from pipeline.storage.objects import StoreError

    try:
        yield
    except StoreError as error:
        raise RunAborted(f"{error}; what was committed is kept: run this again") from error


def take_over(output: str, run_id: str) -> None:
    """Put right what runs that died have left behind, before anything is planned."""
    from pipeline.ledger.adopt import take_over_from_dead
    from pipeline.ledger.reopen import finish_reopening
    from pipeline.ledger.store import Store

    take_over_from_dead(output)
    finish_reopening(Store(output), run_id)


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
        others = not_redone(store, what, [analysis.fingerprint for analysis in job.wanted])
        if others:
            stats.note(
                f"quarantined clips are not tried again: {', '.join(others)} has looked at the "
                "same frames, and is not in this configuration"
            )
        elif not reopen(store, what, job.run_id):
            stats.note("quarantined clips wait for a --retry-failed without another run beside it")
    return bool(corpus.counts)


def check_choices(engine: str | None, priority: str, overlap: str) -> None:
    """Raise UsageError for what is none of the words that there are."""
    from pipeline.priority import check_priority

    if engine not in (None, "ray", "local"):
        raise UsageError(f"--engine {engine}: choose ray or local")
    if overlap not in ("share", "leave"):
        raise UsageError(f"--overlap {overlap}: choose share or leave")
    check_priority(priority)


def make_job(
    config: Config | str | Path, output: str, engine: str | None = None, run_id: str | None = None
) -> Job:
    """The run's identity, with its models found and its output checked."""
    from pipeline.engine.job import Job, analyses_of
    from pipeline.tracks.analysis import tracks_of

    if not isinstance(config, Config):
        config = load_config(config)
    if engine is not None:
        chosen = config.engine.model_copy(update={"name": engine})
        config = config.model_copy(update={"engine": chosen})
    output = check_output(output)
    analyses = analyses_of(config)
    tracks = tracks_of(config, analyses)
    return Job(check_run_id(run_id or new_run_id()), config, output, analyses, tracks)


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
    job: Job,
    inputs: Sequence[str],
    *,
    retry_failed: bool = False,
    priority: Priority = "discovery",
) -> Corpus:
    """The inputs, held against what the output already has."""
    from pipeline.ledger.books import Books
    from pipeline.resume import Corpus
    from pipeline.sources.discover import check_inputs

    chosen = tuple(str(name) for name in inputs) or job.config.inputs
    if not chosen:
        raise UsageError("no input given: name files, folders, globs or lists")
    check_inputs(chosen)
    return Corpus(job, chosen, Books(job.output), retry_failed, priority)


def nothing_in(corpus: Corpus) -> str:
    """What to say of inputs that hold no video at all."""
    left_out = corpus.discovery.note()
    more = f"; {left_out}" if left_out else ""
    return f"no videos in {', '.join(corpus.inputs)}: nothing to do{more}"
