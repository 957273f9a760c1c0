"""The commands that use what a run has made."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli_options import AsOfOpt, OutputArg

if TYPE_CHECKING:
    from pipeline.ledger.reader import Ledger
    from pipeline.results.search import Hit

# -- index ----------------------------------------------------------------------------


def index_command(
    output: OutputArg,
    analysis: Annotated[
        str | None, typer.Option(help="Other embeddings than the newest, by fingerprint.")
    ] = None,
) -> None:
    """Make, or bring up to date, the vector index that `search --approximate` uses."""
    from pipeline.ledger.reader import Ledger
    from pipeline.results.query import embeddings_analysis
    from pipeline.results.vector_index import build_index

    ledger = Ledger(output)
    built = build_index(ledger, embeddings_analysis(ledger, analysis))
    print(
        f"index    {built.rows:,} embeddings ({built.added:,} new), {built.nodes:,} that differ, "
        f"{built.size_bytes / 2**20:,.1f} MiB: {built.path}"
    )


# -- search ---------------------------------------------------------------------------


def search_command(
    output: OutputArg,
    text: Annotated[str | None, typer.Argument(help='What to look for: "a red car".')] = None,
    image: Annotated[
        Path | None, typer.Option(help="A picture to look for; with a text, what is like both.")
    ] = None,
    k: Annotated[int, typer.Option("--k", min=1, help="Moments, or tracks, to find at most.")] = 20,
    class_name: Annotated[
        str | None,
        typer.Option("--class", help="Only frames with a detection, or tracks, of this class."),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Least score of that detection; of a track the mean."),
    ] = None,
    video: Annotated[
        str | None, typer.Option(help="Only videos of such a name: a glob, as 'lobby-*.mp4'.")
    ] = None,
    every: Annotated[
        str | None, typer.Option(help="At most one moment of a video in 1s, 30s, 5m ...")
    ] = None,
    near: Annotated[
        float,
        typer.Option(min=-1, max=1, help="Cosine from which neighbours are one moment."),
    ] = 0.95,
    merge: Annotated[
        bool, typer.Option(help="Put neighbours that look alike together in one moment.")
    ] = True,
    model: Annotated[
        str | None, typer.Option(help="Where the model that wrote the embeddings is now.")
    ] = None,
    analysis: Annotated[
        str | None, typer.Option(help="Other embeddings than the newest, by fingerprint.")
    ] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Use the index: faster, and may miss some.")
    ] = False,
    tracks: Annotated[
        bool, typer.Option("--tracks", help="Find tracks, by the mean embedding of their frames.")
    ] = False,
    as_of: AsOfOpt = None,
    json_file: Annotated[
        str | None, typer.Option("--json", help="Write what was found here as JSON; - prints it.")
    ] = None,
    csv_file: Annotated[str | None, typer.Option("--csv", help="The same as CSV.")] = None,
    save_frames: Annotated[
        Path | None, typer.Option(help="Write the best frame of each of them to this folder.")
    ] = None,
    frame_format: Annotated[str, typer.Option(help="png (exact) or jpg.")] = "png",
    sheet: Annotated[
        Path | None, typer.Option("--contact-sheet", help="Write all of them on one .png or .jpg.")
    ] = None,
) -> None:
    """Find the moments, or the tracks, of OUTPUT that are most like a text or a picture.

    Exit code: 0, 2 where it cannot be searched, 3 where a picture of a hit could not be made.
    """
    from pipeline.durations import parse_duration
    from pipeline.errors import EXIT_FAILURES, UsageError
    from pipeline.ledger.reader import Ledger
    from pipeline.results.moments import NEAR
    from pipeline.results.search import Hit, search
    from pipeline.results.track_search import TrackHit, search_tracks

    if frame_format not in ("png", "jpg"):
        raise UsageError(f"--frame-format {frame_format}: choose png or jpg")
    if json_file == csv_file == "-":
        raise UsageError("--json - and --csv -: only one of them can be printed")
    ledger = Ledger(output, as_of)
    alike: dict[str, Any] = {"image": image, "k": k, "model": model, "analysis": analysis}
    alike |= {"class_name": class_name, "min_score": min_score, "video": video}
    hits: Sequence[Hit]
    if tracks:
        if every is not None or approximate or not merge or near != NEAR:
            raise UsageError(
                "--tracks: a track is found as a whole; leave out --every, --near, --no-merge and "
                "--approximate"
            )
        hits = search_tracks(ledger, text, **alike)
    else:
        every_s = parse_duration(every, "--every") if every is not None else 0.0
        merged = near if merge else None
        hits = search(ledger, text, every_s=every_s, near=merged, approximate=approximate, **alike)
    if approximate:
        _tell_newer(ledger, analysis)
    if json_file is not None:
        _write_text("--json", json_file, _as_json(hits))
    if csv_file is not None:
        _write_text("--csv", csv_file, _as_csv(hits, TrackHit if tracks else Hit))
    if "-" not in (json_file, csv_file):
        _print_hits(hits)
    if save_frames is not None or sheet is not None:
        title = " and ".join([*([text] if text else []), *([f"like {image}"] if image else [])])
        filters = {"class": class_name, "min-score": min_score, "video": video, "every": every}
        said = [f"--{name} {value}" for name, value in filters.items() if value is not None]
        what = "tracks" if tracks else "moments"
        if not _write_pictures(ledger, hits, what, title, said, save_frames, frame_format, sheet):
            raise typer.Exit(EXIT_FAILURES)


def _tell_newer(ledger: Ledger, analysis: str | None) -> None:
    from pipeline.results.query import embeddings_analysis
    from pipeline.results.vector_index import open_index
    from pipeline.results.vectors import Vectors

    of = embeddings_analysis(ledger, analysis)
    newer = len(open_index(ledger, of).newer(Vectors(ledger, of)))
    if newer:
        files = "1 file is" if newer == 1 else f"{newer:,} files are"
        print(
            f"frameledger: {files} newer than the index, and searched whole; "
            f"`frameledger index {ledger.output}` brings it up to date",
            file=sys.stderr,
        )


def _print_hits(hits: Sequence[Hit]) -> None:
    from pipeline.durations import clock
    from pipeline.report import printable
    from pipeline.results.track_search import TrackHit

    if not hits:
        print("nothing found")
        return
    named = [f"{printable(hit.caption)}  " if isinstance(hit, TrackHit) else "" for hit in hits]
    wide = max(map(len, named))
    span, track = ("from first to last", "track") if wide else ("moment", "")
    print(f"{'':>3} {'score':>6}  {'time':>10}  {'frame':>9}  {span:<24}  {track:<{wide}}video")
    for hit, name in zip(hits, named, strict=True):
        span = f"{clock(hit.start_s)} to {clock(hit.end_s)}"
        print(
            f"{hit.rank:>3} {hit.score:>6.3f}  {clock(hit.pts_s):>10}  {hit.frame_index:>9,}  "
            f"{span:<24}  {name:<{wide}}{hit.uri}"
        )


def _as_json(hits: Sequence[Hit]) -> str:
    import json

    return json.dumps([hit.as_dict() for hit in hits], indent=2) + "\n"


def _as_csv(hits: Sequence[Hit], kind: type[Hit]) -> str:
    import csv
    import io
    from dataclasses import fields

    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(kind)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(hit.as_dict() for hit in hits)
    return text.getvalue()


def _write_text(option: str, where: str, text: str) -> None:
    from pipeline.errors import UsageError

    if where == "-":
        sys.stdout.write(text)
        return
    try:
        Path(where).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{option} {where}: {error.strerror}") from None


def _write_pictures(
    ledger: Ledger,
    hits: Sequence[Hit],
    what: str,
    title: str,
    filters: list[str],
    folder: Path | None,
    kind: str,
    sheet: Path | None,
) -> bool:
    """Whether there is a picture of every hit."""
    from pipeline.results.contact_sheet import contact_sheet, thumbnail
    from pipeline.results.hit_frames import pictures_of, save_frame, write_image

    lost: list[str] = []
    small, shown = {}, 0
    for hit, rgb in pictures_of(ledger, hits, lost.append):
        if folder is not None:
            save_frame(folder, hit, rgb, kind)  # type: ignore[arg-type]
        if sheet is not None:
            small[hit.rank] = thumbnail(rgb, hit.boxes)
        shown += 1
    if folder is not None:
        print(f"{shown:,} frames in {folder}", file=sys.stderr)
    if sheet is not None:
        videos = len({hit.video_id for hit in hits})
        note = f"{len(hits):,} {what} in {videos:,} video{'s' * (videos != 1)}"
        write_image(contact_sheet(title, hits, small, ", ".join([note, *filters])), sheet)
        print(f"contact sheet: {sheet}", file=sys.stderr)
    for line in lost:
        print(f"frameledger: {line}", file=sys.stderr)
    return not lost
