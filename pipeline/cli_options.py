"""Arguments and options that several commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

ConfigArg = Annotated[Path, typer.Argument(help="YAML file; configs/demo.yaml shows every key.")]
InputsArg = Annotated[
    list[str] | None,
    typer.Argument(help="Files, folders (recursive), globs, text lists; also s3://, gs://, az://."),
]
_TABLES = "Folder of the tables, or s3://BUCKET/PREFIX (gs://, az://)."
OutputOpt = Annotated[str, typer.Option("--output", "-o", help=_TABLES)]
OutputArg = Annotated[str, typer.Argument(help=_TABLES)]
SetOpt = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE over the configuration, as sampling.stride=4."),
]
LimitOpt = Annotated[
    int | None, typer.Option(min=1, help="Take at most this many videos that need work.")
]
RetryOpt = Annotated[bool, typer.Option(help="Try again what earlier runs gave up.")]
JsonOpt = Annotated[
    Path | None, typer.Option("--json", help="Write the figures to this file as JSON.")
]
AsOfOpt = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        help="As it was at a time such as 2026-05-17T09:30:00 (UTC), or as a run left it.",
    ),
]
RunIdOpt = Annotated[
    str | None,
    typer.Option("--run-id", help="Name of the run, for who follows it by its record."),
]


def write_json(path: Path, figures: object) -> None:
    """What `--json PATH` asks for. Raises UsageError where it cannot be written."""
    from pipeline.errors import UsageError

    try:
        path.write_text(json.dumps(figures, indent=2), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--json {path}: {error.strerror}") from None
