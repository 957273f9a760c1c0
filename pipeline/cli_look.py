"""The commands that look at what runs have made: `render`, `show` and `report`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli_options import OutputArg, write_json
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.results.render import Rendered
    from pipeline.results.show import Shown

VideoArg = Annotated[
    str, typer.Argument(help="A video of OUTPUT: uri, video_id (or its beginning), or file name.")
]

# -- render -------------------------------------------------------------------------------


def render_command(
    output: OutputArg,
    video: VideoArg,
    file: Annotated[str, typer.Option("--output", "-o", help="The mp4 to be written.")],
    start: Annotated[
        str | None, typer.Option(help="From here: seconds, hh:mm:ss, or a frame as 120f.")
    ] = None,
    end: Annotated[str | None, typer.Option(help="Up to here, not included: as --start.")] = None,
    classes: Annotated[
        str | None, typer.Option(help="Boxes of these classes only, as person,car.")
    ] = None,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Boxes of at least this.")] = 0.0,
    masks: Annotated[bool, typer.Option(help="Fill what a box's mask covers.")] = True,
    labels: Annotated[bool, typer.Option(help="Class and score at each box.")] = True,
    between: Annotated[
        str, typer.Option(help="On frames that were not sampled: the last boxes, or none.")
    ] = "last",
    tracks: Annotated[
        bool, typer.Option("--tracks", help="Boxes of tracks, by colour and id; no masks.")
    ] = False,
    keep_pts: Annotated[
        bool, typer.Option("--keep-pts", help="Begin at the source's own time, not at 0.")
    ] = False,
) -> None:
    """Write a part of VIDEO with its boxes to an mp4, each frame at the source's time."""
    from pipeline.results.boxes import BoxChoice
    from pipeline.results.render import render

    if between not in ("last", "none"):
        raise UsageError(f"--between {between}: choose last or none")
    names = tuple(name.strip() for name in (classes or "").split(",") if name.strip())
    choice = BoxChoice(names, min_score, masks, between, tracks)  # type: ignore[arg-type]
    done = render(
        output,
        video,
        file,
        start=start,
        end=end,
        choice=choice,
        labels=labels,
        keep_pts=keep_pts,
        progress=_progress(),
    )
    _print_rendered(done)


def _print_rendered(done: Rendered) -> None:
    from pipeline.report import printable

    width, height = done.size
    print(f"video    {printable(done.uri)}")
    print(
        f"frames   {done.frames:,} ({done.first_frame} to {done.last_frame}), "
        f"{done.seconds:.3f} s, {width}x{height}"
    )
    print(f"boxes    {done.boxes:,} drawn")
    print(f"sound    {done.audio}")
    for note in done.notes:
        print(f"note     {note}")
    print(f"output   {done.path}")


_TOLD_EVERY_S = 5.0


def _progress() -> Callable[[int, int], None]:
    """Says on stderr, now and then, how far something long has come."""
    started = told = time.monotonic()

    def tell(done: int, of: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= _TOLD_EVERY_S:
            told = now
            print(f"{done:,} of {of:,} frames ({done / (now - started):,.0f}/s)", file=sys.stderr)

    return tell


# -- show ---------------------------------------------------------------------------------


def show_command(
    output: OutputArg,
    video: VideoArg,
    frame: Annotated[int, typer.Argument(help="Index of a sampled frame, from 0.")],
    file: Annotated[
        str | None, typer.Option("--output", "-o", help="Write its picture with boxes: a png.")
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", help="Write the rows as JSON; - for standard output.")
    ] = None,
) -> None:
    """All that is known of a frame: its row, its boxes, its embedding's size, its picture."""
    from pipeline.results.show import picture_of, show, write_png
    from pipeline.results.target import check_target

    target = check_target(file, ".png") if file is not None else None
    shown = show(output, video, frame)
    if json_file == "-":
        print(json.dumps(shown.as_dict(), indent=2))
    else:
        _print_shown(shown)
        if json_file is not None:
            write_json(Path(json_file), shown.as_dict())
    if target is not None:
        write_png(target, picture_of(output, shown))
        if json_file != "-":
            print(f"picture   {file}")


def _print_shown(shown: Shown) -> None:
    from pipeline.report import printable
    from pipeline.results.draw import timecode

    row, rows = shown.frame.row, shown.frame.detections.to_pylist()
    print(f"video     {printable(shown.uri)}")
    print(f"video_id  {shown.frame.video_id}")
    keyframe = ", a keyframe" if row["is_keyframe"] else ""
    print(
        f"frame     {row['frame_index']} at {timecode(row['pts_s'])} (pts {row['pts']}){keyframe}, "
        f"{row['width']}x{row['height']}, {row['status']}"
    )
    vector = shown.frame.embedding
    print(f"embedding {'none' if vector is None else f'{len(vector)} x float32'}")
    print(f"boxes     {len(rows) or 'none'}")
    width = max((len(printable(row["class_name"])) for row in rows), default=0)
    for box in rows:
        corners = "".join(f"{box[side]:10.2f}" for side in ("x1", "y1", "x2", "y2"))
        mask = "  mask" if box["mask"] is not None else ""
        name = printable(box["class_name"])
        print(f"  {box['detection_index']:3}  {name:{width}}  {box['score']:.3f}{corners}{mask}")


# -- report -------------------------------------------------------------------------------


def report_command(
    output: OutputArg,
    file: Annotated[
        str, typer.Option("--output", "-o", help="The page to be written.")
    ] = "report.html",
    videos: Annotated[
        int, typer.Option(min=0, help="Show so many videos at most one by one.")
    ] = 24,
    searches: Annotated[
        list[str] | None,
        typer.Option("--search", help="Show what is most like this text; without, some classes."),
    ] = None,
    no_search: Annotated[bool, typer.Option("--no-search", help="Search for nothing.")] = False,
) -> None:
    """Write one self-contained page about OUTPUT: what was processed, what failed, what was seen.

    Pictures are taken from the videos, where they still are.
    """
    from pipeline.results.report_page import write_report

    texts = [] if no_search else searches
    done = write_report(output, file, videos=videos, searches=texts)
    print(
        f"report   {done.path}: {done.videos:,} of {done.of_videos:,} videos one by one, "
        f"{done.pictures:,} pictures, {done.size_bytes / 2**20:.1f} MiB"
    )
