"""The command line. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from pipeline.cli_cluster import preflight_command, submit_command
from pipeline.cli_export import export_command, sql_command
from pipeline.cli_look import render_command, report_command, show_command
from pipeline.cli_options import (
    AsOfOpt,
    ConfigArg,
    InputsArg,
    JsonOpt,
    LimitOpt,
    OutputArg,
    OutputOpt,
    RetryOpt,
    RunIdOpt,
    SetOpt,
    write_json,
)
from pipeline.cli_results import index_command, search_command
from pipeline.cli_serve import serve_command
from pipeline.errors import EXIT_ABORTED, EXIT_OK, EXIT_USAGE, FrameledgerError
from pipeline.storage.objects import StoreError

_RAY_OF_DEATHS = (
    "^A worker died or was killed while executing a task|"
    r"^Task \S+ failed\. There are infinite retries remaining"
)
"""What Ray prints on stdout for each process that dies, in ten lines. The run replaces it, and says
itself what became of the work."""
# Read when ray is imported, which only the engine does.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", _RAY_OF_DEATHS)

app = typer.Typer(
    name="frameledger",
    help="A corpus of videos to Parquet tables: every sampled frame with its detections and its "
    "embedding, at its exact index.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command("run")
def run_command(
    config: ConfigArg,
    inputs: InputsArg = None,
    output: OutputOpt = "",
    overrides: SetOpt = None,
    engine: Annotated[str | None, typer.Option(help="ray or local.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to run on; this machine without it.")
    ] = None,
    limit: LimitOpt = None,
    retry_failed: RetryOpt = False,
    budget: Annotated[
        str | None, typer.Option(help="Begin nothing more after 6h, 90m, 1d12h ...")
    ] = None,
    budget_frames: Annotated[
        int | None, typer.Option(min=1, help="Begin nothing more after so many sampled frames.")
    ] = None,
    priority: Annotated[
        str, typer.Option(help="What comes first: discovery, newest, oldest or stale-first.")
    ] = "discovery",
    overlap: Annotated[
        str, typer.Option(help="While another run works in OUTPUT: share the work, or leave it.")
    ] = "share",
    report: Annotated[
        str | None, typer.Option(help="Folder for run.json and run.md, however the run ends.")
    ] = None,
    json_file: JsonOpt = None,
    run_id: RunIdOpt = None,
) -> None:
    """Process what is due of the inputs and commit it to the tables in OUTPUT.

    Exit code: 0 all ok, as far as a budget or a limit went; 1 aborted, 2 usage or configuration,
    3 finished with failures.
    """
    from pipeline.durations import parse_duration
    from pipeline.progress import choose_progress
    from pipeline.report import print_summary
    from pipeline.runner import run

    summary = run(
        config,
        inputs or [],
        output,
        overrides=tuple(overrides or ()),
        engine=engine,  # type: ignore[arg-type]
        address=address,
        limit=limit,
        retry_failed=retry_failed,
        budget_s=parse_duration(budget, "--budget") if budget is not None else None,
        budget_frames=budget_frames,
        priority=priority,  # type: ignore[arg-type]
        overlap=overlap,  # type: ignore[arg-type]
        report=report,
        progress=choose_progress(),
        run_id=run_id,
    )
    print_summary(summary)
    if json_file is not None:
        write_json(json_file, summary.as_dict())
    raise typer.Exit(summary.exit_code)


@app.command("plan")
def plan_command(
    config: ConfigArg,
    inputs: InputsArg = None,
    output: OutputOpt = "",
    overrides: SetOpt = None,
    limit: LimitOpt = None,
    retry_failed: RetryOpt = False,
    json_file: JsonOpt = None,
) -> None:
    """Say what a run would do; nothing is written. Videos never seen before are indexed for it."""
    from pipeline.config_file import load_config
    from pipeline.preview import plan
    from pipeline.report import print_plan

    loaded = load_config(config, tuple(overrides or ()))
    figures = plan(loaded, inputs or [], output, limit=limit, retry_failed=retry_failed)
    print_plan(figures)
    if json_file is not None:
        write_json(json_file, figures.as_dict())


@app.command("status")
def status_command(output: OutputArg, as_of: AsOfOpt = None) -> None:
    """What OUTPUT holds: videos, analyses, rows, failures."""
    from pipeline.report import print_status

    print_status(output, as_of)


@app.command("runs")
def runs_command(
    output: OutputArg,
    show: Annotated[int, typer.Option(min=1, help="Runs to print at most, the latest.")] = 20,
) -> None:
    """The runs that had work to do in OUTPUT: when, where, how they ended (times in UTC)."""
    from pipeline.report import print_runs

    print_runs(output, show)


@app.command("verify")
def verify_command(
    output: OutputArg,
    config: Annotated[
        Path | None, typer.Argument(help="With --deep: whose models make the rows again.")
    ] = None,
    overrides: SetOpt = None,
    show: Annotated[int, typer.Option(min=1, help="Offending rows to print at most.")] = 20,
    as_of: AsOfOpt = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also decode some frames again, and compare.")
    ] = False,
    sample: Annotated[int, typer.Option(min=1, help="With --deep: so many frames.")] = 64,
) -> None:
    """Audit OUTPUT: every sampled frame exactly once, every data row on one of them, every file
    as the log says.

    With --deep a sample of frames is made again from the videos where they are still there: pts
    and sizes, and with CONFIG embeddings and detections.

    Exit code: 0 sound, 3 with the offending rows printed.
    """
    from pipeline.config_file import load_config
    from pipeline.errors import UsageError
    from pipeline.report import print_deep_verify, print_verify

    if config is not None and not deep:
        raise UsageError(f"{config}: a configuration is for --deep, which makes frames again")
    if deep and as_of:
        raise UsageError("--deep looks at the tables as they are: leave --as-of out")
    loaded = load_config(config, tuple(overrides or ())) if config is not None else None
    code = print_verify(output, show, as_of)
    if deep:
        code = max(code, print_deep_verify(output, loaded, sample, show))
    raise typer.Exit(code)


@app.command("gc")
def gc_command(
    output: OutputArg,
    dry_run: Annotated[bool, typer.Option(help="Say what would be done; change nothing.")] = False,
    grace: Annotated[
        int, typer.Option(help="Hours for which files, and history, are kept: 0 to 168.")
    ] = 24,
    superseded: Annotated[
        bool,
        typer.Option(help="Also rows of superseded analyses, and of contents no file has now."),
    ] = False,
    keep: Annotated[
        str | None,
        typer.Option(help="As --superseded, but only what has been so for longer than 90d ..."),
    ] = None,
) -> None:
    """Put small files of OUTPUT together, and remove files that nothing names."""
    from pipeline.durations import parse_duration
    from pipeline.ledger.gc import gc
    from pipeline.report import print_gc

    keep_s = parse_duration(keep, "--keep") if keep is not None else 0.0
    wanted = superseded or keep is not None
    print_gc(gc(output, dry_run=dry_run, grace_hours=grace, superseded=wanted, keep_s=keep_s))


@app.command("models")
def models_command(config: ConfigArg, overrides: SetOpt = None) -> None:
    """Load what CONFIG names, try it on one generated frame, and print what it is.

    Exit code: 0, or 2 where a model cannot be found or loaded, with the reason.
    """
    from pipeline.config_file import load_config
    from pipeline.model_check import check_models
    from pipeline.report import print_models

    print_models(check_models(load_config(config, tuple(overrides or ()))))


@app.command("profile")
def profile_command(
    config: ConfigArg,
    video: Annotated[str, typer.Argument(help="A video like those of the corpus.")],
    overrides: SetOpt = None,
) -> None:
    """Try clip lengths and batch sizes on this machine with one video, and recommend some."""
    from pipeline.config_file import load_config
    from pipeline.profiling import profile
    from pipeline.report import print_profile

    print_profile(profile(load_config(config, tuple(overrides or ())), video))


@app.command("demo")
def demo_command(
    videos: Annotated[
        list[str] | None, typer.Argument(help="Videos of your own to run beside the demo's.")
    ] = None,
    output: OutputOpt = "demo-output",
    engine: Annotated[str, typer.Option(help="ray or local.")] = "ray",
) -> None:
    """Make videos with known content, run configs/demo.yaml on them, and score the result."""
    from pipeline.demo.show import demo

    raise typer.Exit(demo(output, videos or [], engine))


app.command("submit")(submit_command)
app.command("preflight")(preflight_command)
app.command("search")(search_command)
app.command("index")(index_command)
app.command("render")(render_command)
app.command("show")(show_command)
app.command("report")(report_command)
app.command("serve")(serve_command)
app.command("sql")(sql_command)
app.command("export")(export_command)

_INTERRUPTED = 130
"""What the command-line parser makes of a KeyboardInterrupt."""


def _stop(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def invoke(arguments: list[str] | None = None) -> tuple[int, str]:
    """Run one command, of this process' own arguments where none are given.

    Returns its exit code and, where it ended on an error that is meant for the user, its line.
    """
    signal.signal(signal.SIGTERM, _stop)
    try:
        code = app(arguments, standalone_mode=False)
    except FrameledgerError as error:
        return error.exit_code, str(error)
    except StoreError as error:
        return EXIT_ABORTED, str(error)
    except typer.Exit as leaving:
        code = leaving.exit_code
    except Exception as error:
        show = getattr(error, "show", None)  # Usage errors of the command-line parser.
        if show is None:
            raise
        show()
        return EXIT_USAGE, ""
    if code == _INTERRUPTED:
        return EXIT_ABORTED, "stopped; what was committed is kept"
    return code or EXIT_OK, ""


def main() -> None:
    """Entry point: errors meant for users become one line and an exit code."""
    code, error = invoke()
    if error:
        print(f"frameledger: {error}", file=sys.stderr)
    sys.exit(code)
