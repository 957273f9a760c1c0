"""What the commands print at their end."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING

from pipeline.account import left_in_words
from pipeline.durations import said
from pipeline.errors import EXIT_FAILURES, EXIT_OK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.config import Config
    from pipeline.ledger.audit import Finding
    from pipeline.ledger.gc import GcReport
    from pipeline.model_check import ModelCheck
    from pipeline.preview import Preview
    from pipeline.profiling import Profile, Trial
    from pipeline.summary import RunSummary

SHOWN_PROBLEMS = 10
SHOWN_CLASSES = 12


def print_summary(summary: RunSummary) -> None:
    """The end of a run, in a dozen lines."""
    if summary.left_to:
        print(f"nothing done: left to {summary.left_to}")
        _print_notes(summary)
        return
    if summary.did_nothing:
        print(f"nothing to do: {summary.videos_done_before:,} videos are done in {summary.output}")
        _print_notes(summary)
        _print_failed_before(summary)
        return
    print(
        f"videos   {summary.videos_ok:,} ok, {summary.videos_partial:,} partial, "
        f"{summary.videos_failed:,} failed; {summary.videos_done_before:,} were done before"
    )
    rows = ", ".join(f"{count:,} {table}" for table, count in summary.rows.items() if count)
    print(f"rows     {rows or 'none'}")
    print(
        f"speed    {summary.frames_per_s:,.1f} frames/s over {summary.steady_s:.1f} s "
        f"(start-up {summary.startup_s:.1f} s, total {summary.total_s:.1f} s)"
    )
    if summary.cached_frames:
        print(f"cache    {summary.cached_frames:,} of {summary.frames:,} frames were there")
    shares = ", ".join(f"{name} {share:.0%}" for name, share in summary.shares.items())
    models = ", ".join(f"{name} {spent:.1f} s" for name, spent in summary.analyze_s.items())
    print(f"time     {shares}" + (f" ({models})" if models else ""))
    for name, spent in summary.analyze_s.items():
        steps = {
            step.removeprefix(f"{name}."): seconds / spent
            for step, seconds in summary.steps_s.items()
            if step.startswith(f"{name}.") and spent > 0
        }
        if steps:
            print(f"{name:8} " + ", ".join(f"{step} {share:.0%}" for step, share in steps.items()))
    if summary.tracked:
        print(f"tracks   of {summary.tracked:,} videos in {summary.track_s:.1f} s")
    if summary.tracks_failed:
        print(f"tracks   given up of {summary.tracks_failed:,} videos (see the table failures)")
    memory = f"{summary.host_bytes / 2**20:,.0f} MiB"
    if summary.device_bytes:
        memory += f", {summary.device_bytes / 2**20:,.0f} MiB of its GPU"
    print(f"memory   at most {memory} in a process that analyzes")
    where = f"{summary.engine}, {summary.placement}, {summary.decoders} workers"
    print(f"limit    {summary.limit} [{where}]")
    print(f"output   {summary.output} ({summary.commits} commits, {summary.commit_s:.1f} s)")
    if summary.retries:
        print(f"retries  {summary.retries:,} pieces of work were tried again")
    if left := left_in_words(summary.left):
        print(f"left     {left}; the next run goes on")
    _print_notes(summary)
    _print_problems(summary.problems, summary.videos_failed + summary.videos_partial)
    _print_failed_before(summary)


def _print_notes(summary: RunSummary) -> None:
    for note in summary.notes:
        print(f"note     {note}")


def _print_failed_before(summary: RunSummary) -> None:
    if summary.videos_partial_before:
        print(
            f"partial  {summary.videos_partial_before:,} of the videos done before lack frames "
            "(the table failures says which)"
        )
    if summary.videos_failed_before:
        print(
            f"failed   {summary.videos_failed_before:,} videos failed in earlier runs "
            "(--retry-failed tries them again)"
        )


def _print_problems(problems: tuple[dict[str, object], ...], videos: int) -> None:
    for problem in problems[:SHOWN_PROBLEMS]:
        frames = ""
        if problem["first_frame"] is not None:
            last = problem["last_frame"]
            frames = f" frames {problem['first_frame']}-{'' if last is None else last}"
        uri = printable(str(problem["uri"]))
        print(f"failed   {uri}{frames}: {problem['stage']}: {problem['reason']}")
    if len(problems) > SHOWN_PROBLEMS:
        print(f"         ... all of them are in the table failures ({videos:,} videos concerned)")


def printable(name: str) -> str:
    """A file may be called what a terminal would obey, or what looks like another line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def print_models(checks: list[ModelCheck]) -> None:
    """What `frameledger models` found, a paragraph for each analyzer."""
    if not checks:
        print("the configuration names no detector and no embedder: a run writes frames only")
    for check in checks:
        facts = check.facts
        weights = f"{facts.parameters:,} parameters"
        print(f"{check.analysis.name:9} {facts.kind}, {weights}, on {check.device}")
        print(f"  memory    {check.memory}")
        width, height = check.size
        print(
            f"  one frame {check.rows} of {check.analysis.table} from a generated "
            f"{width}x{height} picture in {check.seconds:.2f} s (the second try)"
        )
        if facts.classes:
            shown = ", ".join(facts.classes[:SHOWN_CLASSES])
            more = len(facts.classes) - SHOWN_CLASSES
            rest = f" and {more} more" if more > 0 else ""
            print(f"  classes   {len(facts.classes)}: {shown}{rest}")
        print(f"  analysis  {check.analysis.fingerprint}, made of:")
        for key, value in check.analysis.identity.items():
            text = json.dumps(value)
            print(f"    {key:15} {text if len(text) <= 100 else text[:97] + '...'}")


def print_profile(steps: Iterator[Trial | Profile]) -> None:
    """Every trial in a line as it ends, then what they recommend."""
    from pipeline.profiling import Profile

    header = False
    for step in steps:
        if isinstance(step, Profile):
            _print_recommendation(step)
            return
        if not header:
            names = "".join(f"{name:>12}" for name in step.analyze)
            print(f"{'clip.length':>11}{'batch':>7}{'decode':>10}{names}{'memory':>12}")
            print(f"{'':>18}" + f"{'frames/s':>10}" + f"{'frames/s':>12}" * len(step.analyze))
            header = True
        rates = "".join(f"{rate:12,.1f}" for rate in step.analyze.values())
        memory = f"{step.memory_bytes / 2**20:,.0f} MiB"
        print(f"{step.length:11}{step.batch or '-':>7}{step.decode:10,.1f}{rates}{memory:>12}")


def _print_recommendation(profile: Profile) -> None:
    best = profile.best
    print(f"limit    {profile.limit} [{profile.device}]")
    print(
        f"a run    about {profile.run_rate(best):,.0f} frames/s on this machine; with these lines:"
    )
    print(f"clip:\n  length: {best.length}")
    for name in best.analyze if best.batch is not None else ():
        print(f"{name}:\n  batch: {best.batch}")


def print_plan(preview: Preview) -> None:
    """What a run would do."""
    order = ("new", "changed", "unfinished", "stale", "done", "failed", "unreadable")
    videos = ", ".join(f"{preview.videos[s]:,} {s}" for s in order if preview.videos.get(s))
    print(f"videos   {videos}")
    if preview.quarantined:
        print(
            f"retry    shards with quarantined clips of {preview.quarantined:,} of the videos that "
            "are done, beside what follows"
        )
    print(
        f"to do    {preview.frames:,} frames in {preview.clips:,} clips, {preview.shards:,} shards"
    )
    for name, frames in preview.analyses.items():
        print(f"         {name}: {frames:,} frames")
    for run_id, shards in preview.journaled.items():
        print(
            f"         {shards:,} of the shards are whole in the journal of run {run_id}, which "
            "died: the next run commits them first"
        )
    if preview.seconds is not None:
        print(
            f"time     about {said(preview.seconds)} at {preview.frames_per_s:,.0f} frames/s, "
            f"as an earlier run of {'these' if preview.alike else 'other'} analyses made"
        )
    elif preview.frames:
        print("time     not known: no run has done anything here")
    if preview.left_out:
        endings = ", ".join(f"{n:,} {ending}" for ending, n in sorted(preview.left_out.items()))
        print(f"left out {endings} (in folders)")
    for problem in preview.problems[:SHOWN_PROBLEMS]:
        print(f"would fail  {printable(problem.uri)}: {problem.reason}")


def print_runs(output: str, show: int) -> None:
    """The latest runs of an output, one a line."""
    from datetime import timedelta

    from pipeline.ledger.reader import Ledger
    from pipeline.ledger.runs import read_runs

    runs = read_runs(Ledger(output).output)
    if not runs:
        print(f"no run has worked in {output}")
    for run in runs[-max(0, show) :]:
        began = f"{run['started_at']:%Y-%m-%d %H:%M:%S}"
        state = run["state"]
        if state == "ended":
            took: timedelta = run["ended_at"] - run["started_at"]
            state = f"exit {run['exit_code']} after {said(took.total_seconds())}"
        counts = (
            f"{run['videos_ok']:,} ok, {run['videos_partial']:,} partial, "
            f"{run['videos_failed']:,} failed, {run['frames']:,} frames"
        )
        print(f"{run['run_id']}  {began}  {run['host']}  {state}: {counts}")
        if run["error"]:
            print(f"    {run['error']}")


def print_status(output: str, as_of: str | None = None) -> None:
    """What an output holds, or held."""
    from pipeline.ledger.status import status

    found = status(output, as_of)
    print(f"output   {output}" + (f" as of {as_of}" if as_of else ""))
    videos = ", ".join(f"{count:,} {state}" for state, count in sorted(found.videos.items()))
    print(f"videos   {videos or 'none'}")
    for analysis in found.analyses:
        current = "" if analysis.current else " (superseded)"
        print(
            f"analysis {analysis.name} {analysis.fingerprint}{current}: {analysis.frames:,} frames "
            f"of {analysis.videos:,} videos, {analysis.rows:,} rows in {analysis.table}"
        )
    print(f"failures {found.failures:,} rows")
    print(f"size     {found.size_bytes / 2**20:,.1f} MiB in {found.files:,} files")


def print_gc(report: GcReport) -> None:
    """What a gc has done, or would do: a line for each table concerned."""
    print(f"output   {report.output}" + (" (nothing is changed)" if report.dry_run else ""))
    for dropped in report.dropped:
        rows = ", ".join(f"{count:,} {table}" for table, count in dropped.rows.items())
        print(f"drop     {dropped.what}: {rows or 'no rows'}")
    for one in report.compacted:
        after = f" ({_size(one.bytes_after)})" if one.bytes_after is not None else ""
        print(
            f"compact  {one.table}: {one.files_before:,} files ({_size(one.bytes_before)}) "
            f"to {one.files_after:,}{after}"
        )
    for gone in report.removed:
        print(
            f"remove   {gone.table}: {gone.superseded:,} superseded, {gone.orphaned:,} orphaned "
            f"files ({_size(gone.size_bytes)})"
        )
    if report.checkpoints or report.log_entries:
        print(
            f"log      {report.checkpoints:,} checkpoints, {report.log_entries:,} entries expired"
        )
    for note in report.notes:
        print(f"note     {note}")
    if report.history_since is not None:
        since = datetime.datetime.fromtimestamp(report.history_since, datetime.timezone.utc)
        print(f"history  can be read from {since:%Y-%m-%dT%H:%M:%SZ} on")
    if not (report.dropped or report.compacted or report.removed or report.log_entries):
        print("nothing to clean up")


def _size(nbytes: int) -> str:
    return f"{nbytes / 2**20:,.1f} MiB" if nbytes >= 2**20 else f"{nbytes / 2**10:,.1f} KiB"


def print_verify(output: str, show: int, as_of: str | None = None) -> int:
    """Audit and say what was found; the exit code."""
    from pipeline.ledger.verify import verify

    report = verify(output, as_of=as_of)
    if report.unreferenced:
        nbytes = _size(report.unreferenced_bytes)
        print(f"unreferenced: {report.unreferenced:,} files ({nbytes}); gc removes them in time")
    counts = ", ".join(f"{count:,} {name}" for name, count in report.counts.items())
    return _print_findings(report.findings, show, counts or "rows were not looked at")


def print_deep_verify(output: str, config: Config | None, sample: int, show: int) -> int:
    """Make frames again and say what was found; the exit code."""
    from pipeline.deep_verify import deep_verify

    report = deep_verify(output, config, sample)
    for uri, why in list(report.passed_over.items())[: max(0, show)]:
        print(f"passed over  {uri}: {why}")
    counts = (
        f"made again: {report.frames:,} frames of {report.videos:,} videos, "
        f"{report.embeddings:,} embeddings, boxes of {report.detections:,} frames"
    )
    return _print_findings(report.findings, show, counts)


def _print_findings(findings: list[Finding], show: int, counts: str) -> int:
    for finding in findings[: max(0, show)]:
        print(finding)
    if len(findings) > max(0, show):
        print(f"... and {len(findings) - max(0, show):,} more")
    print(f"{'NOT SOUND' if findings else 'sound'}: {counts}")
    return EXIT_FAILURES if findings else EXIT_OK
