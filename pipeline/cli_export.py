"""The commands that take rows elsewhere: `frameledger sql` and `frameledger export`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from pipeline.cli_options import AsOfOpt, OutputArg
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from typing import TextIO

    import pyarrow as pa

_N = TypeVar("_N", int, float)


def sql_command(
    output: OutputArg,
    query: Annotated[str, typer.Argument(help='SQL, as: "select * from detections limit 5".')],
    rows: Annotated[int, typer.Option(min=0, help="Rows to print at most.")] = 40,
    json_file: Annotated[
        str | None, typer.Option("--json", help="Write all rows here as JSON; - prints them.")
    ] = None,
    csv_file: Annotated[str | None, typer.Option("--csv", help="The same as CSV.")] = None,
    as_of: AsOfOpt = None,
) -> None:
    """Ask the tables of OUTPUT in DuckDB's SQL; nothing is written to them.

    videos, indexes, frames, detections, embeddings, tracks, failures, shards and runs are what is
    current, all_videos and so on all there is.
    """
    from pipeline.ledger.reader import Ledger
    from pipeline.results import sql_output
    from pipeline.results.sql import query as run_query

    with run_query(Ledger(output, as_of), query) as reader:
        if json_file is not None:
            _keep(json_file, reader, sql_output.write_json)
        elif csv_file is not None:
            _keep(csv_file, reader, sql_output.write_csv)
        else:
            sql_output.print_rows(reader, rows)


def _keep(
    name: str, reader: pa.RecordBatchReader, write: Callable[[pa.RecordBatchReader, TextIO], int]
) -> None:
    from pipeline.results.export.target import new_file

    if name == "-":
        write(reader, sys.stdout)
        return
    with (
        new_file(Path(name), overwrite=True) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        count = write(reader, file)
    print(f"{count:,} rows in {name}")


def export_command(
    output: OutputArg,
    to: Annotated[
        str, typer.Option(help="npy, sqlite, coco, mot, lance, webdataset, fiftyone or rerun.")
    ],
    path: Annotated[Path, typer.Option("-o", help="The file or folder to write, on this machine.")],
    video: Annotated[
        list[str] | None,
        typer.Option(help="Only videos of such a name: a uri, an id, or a glob as 'lobby-*.mp4'."),
    ] = None,
    frames: Annotated[
        str | None, typer.Option(help="Only frames START:STOP, by index; either may be left out.")
    ] = None,
    seconds: Annotated[str | None, typer.Option(help="The same by pts_s.")] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", help="Only boxes of this class, and frames that have any."),
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(min=0, max=1, help="Only boxes of this score or more, likewise.")
    ] = None,
    pictures: Annotated[
        str | None, typer.Option(help="jpg, png or none: coco, webdataset and rerun hold them.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace what is at that path.")] = False,
    as_of: AsOfOpt = None,
) -> None:
    """Write what OUTPUT holds in the format of another tool; it is there when it is whole.

    npy, coco, mot, lance, webdataset and fiftyone are folders, sqlite and rerun files.
    """
    from pipeline.ledger.reader import Ledger
    from pipeline.results.export import export
    from pipeline.results.export.job import Job
    from pipeline.results.where import Where

    where = Where(
        video=tuple(video) if video else None,
        frames=_range(frames, "--frames", int),
        seconds=_range(seconds, "--seconds", float),
        classes=tuple(classes or ()),
        min_score=min_score,
    )
    counts = export(Job(Ledger(output, as_of), path, where, overwrite), to, pictures)
    held = {"boxes": counts.boxes, "embeddings": counts.embeddings}
    what = " and ".join(f"{count:,} {name}" for name, count in held.items() if count)
    of = f"{counts.frames:,} frames of {counts.videos:,} videos"
    print(f"{of}{f' with {what}' if what else ''} in {path}")
    if counts.without_picture:
        print(f"{counts.without_picture:,} frames left out, which could not be decoded")


def _range(text: str | None, option: str, kind: Callable[[str], _N]) -> tuple[_N, _N | None] | None:
    if text is None:
        return None
    start, colon, stop = text.partition(":")
    try:
        if colon:
            return kind(start or "0"), kind(stop) if stop else None
    except ValueError:
        pass
    raise UsageError(f"{option} {text}: give START:STOP, as 100:200, 100: or :200")
