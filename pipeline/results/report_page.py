"""`frameledger report`: an output as one page that needs nothing else, to be sent to somebody.

    gather      numbers from the tables
    searches    the frames most like a few texts
    videos      of the first ones: boxes over time, a few frames with their boxes
    template    report.html, which escapes whatever comes from files, models and users

No scripts and no network: the page forbids both to itself.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.durations import clock, said
from pipeline.errors import FrameledgerError, VideoError
from pipeline.ledger.reader import Ledger
from pipeline.results.colors import hex_of
from pipeline.results.report_data import ReportData, RunFacts, Timeline, gather, timeline
from pipeline.results.report_pictures import SmallPicture, small_pictures, spread_over
from pipeline.results.report_tracks import TrackCounts, count_tracks
from pipeline.results.target import check_target, whole

if TYPE_CHECKING:
    from pipeline.results.search import Hit

VIDEOS = 24
"""Videos of which the page says more than a count."""
PICTURES = 6
SEARCHES = 3
"""Classes, the most frequent ones, that are searched for as examples."""
_FOUND = 6
_RUNS = 20
_CLASSES = 24
_VIDEO_CLASSES = 8
_FAILURES = 30
_STAGE_COLORS = ("#4c8dff", "#f2a33a", "#9b6bff", "#2fb58a", "#e0609a")
_WAIT_COLOR = "#9aa4b2"
TIMELINE_SIZE = 600, 18
"""Width and height of one class' row, in units of its drawing."""


@dataclass(frozen=True)
class Report:
    """What was written."""

    path: str
    size_bytes: int
    videos: int
    of_videos: int
    pictures: int


@dataclass(frozen=True)
class _Row:
    """One class of a timeline."""

    name: str
    color: str
    boxes: int
    path: str
    """Of an SVG."""


@dataclass(frozen=True)
class _Card:
    """One video."""

    row: dict[str, Any]
    name: str
    timeline: Timeline | None
    rows: list[_Row]
    more_classes: int
    failed: list[tuple[float, float]]
    """(x, width) of the parts with frames that could not be had."""
    pictures: list[SmallPicture]
    problem: str
    tracks: TrackCounts


@dataclass(frozen=True)
class _Found:
    """A moment that a search found."""

    hit: Hit
    name: str
    picture: SmallPicture | None


@dataclass(frozen=True)
class _Searches:
    found: dict[str, list[_Found]]
    """By text."""
    problem: str
    """Why there are none; empty where there are, or none were asked for."""

    @property
    def pictures(self) -> int:
        every = (one for found in self.found.values() for one in found)
        return sum(one.picture is not None for one in every)


def write_report(
    output: str, path: str, *, videos: int = VIDEOS, searches: Sequence[str] | None = None
) -> Report:
    """Write the page.

    Args:
        videos: so many at most are shown one by one, by name; all are counted.
        searches: texts whose best frames are shown; None: the names of some frequent classes.

    Raises UsageError where `output` is none or the page cannot be made there, RunAborted where
    writing fails. A video that cannot be decoded is shown without pictures, with the reason.
    """
    target = check_target(path, ".html")
    data = gather(output)
    ledger = Ledger(output)
    rows = [row for row in data.videos.to_pylist() if row["video_id"] is not None][:videos]
    cards = [_card(ledger, row) for row in rows]
    texts = [one.name for one in data.classes[:SEARCHES]] if searches is None else searches
    found = _searched(ledger, texts)
    page = _rendered(data, cards, found)
    with whole(target) as part:
        part.write_text(page, encoding="utf-8")
    return Report(
        path=path,
        size_bytes=len(page.encode()),
        videos=len(cards),
        of_videos=data.videos.num_rows,
        pictures=sum(len(card.pictures) for card in cards) + found.pictures,
    )


def _searched(ledger: Ledger, texts: Sequence[str]) -> _Searches:
    from pipeline.results.search import search

    found: dict[str, list[_Found]] = {}
    for text in texts:
        try:
            hits = search(ledger, text, k=_FOUND)
        except FrameledgerError as error:  # No embeddings, or their model is elsewhere.
            return _Searches({}, str(error))
        found[text] = [_with_picture(ledger, hit) for hit in hits]
    return _Searches(found, "")


def _with_picture(ledger: Ledger, hit: Hit) -> _Found:
    try:
        (picture,) = small_pictures(ledger, hit.video_id, [hit.frame_index])
    except VideoError:
        return _Found(hit, os.path.basename(hit.uri), None)
    return _Found(hit, os.path.basename(hit.uri), picture)


def _card(ledger: Ledger, row: dict[str, Any]) -> _Card:
    found = timeline(ledger, row["video_id"])
    pictures: list[SmallPicture] = []
    problem = ""
    try:
        pictures = spread_over(ledger, row["video_id"], PICTURES)
    except VideoError as error:
        problem = f"no pictures: {error.reason}"
    shown = found.classes[:_VIDEO_CLASSES] if found is not None else []
    highest = float(np.nanmax(found.boxes)) if found is not None and found.boxes.size else 1.0
    return _Card(
        row=row,
        name=os.path.basename(row["uri"]),
        timeline=found,
        rows=[
            _Row(one.name, hex_of(one.class_id), one.boxes, step_path(found.boxes[at], highest))
            for at, one in enumerate(shown)
            if found is not None
        ],
        more_classes=len(found.classes) - len(shown) if found is not None else 0,
        failed=_failed(found.failed) if found is not None else [],
        pictures=pictures,
        problem=problem,
        tracks=count_tracks(ledger, row["video_id"]),
    )


def step_path(values: np.ndarray, highest: float) -> str:
    """An SVG path that fills what lies under `values` (parts,), as steps; NaN is nothing."""
    width, height = TIMELINE_SIZE
    step = width / len(values)
    heights = np.nan_to_num(values) / (highest or 1.0) * height
    pieces = []
    at = 0
    while at < len(heights):
        stop = at + 1
        while stop < len(heights) and heights[stop] == heights[at]:
            stop += 1
        if heights[at] > 0:
            x, y = at * step, height - heights[at]
            pieces.append(f"M{x:.1f} {height}V{y:.1f}H{stop * step:.1f}V{height}Z")
        at = stop
    return "".join(pieces)


def _failed(parts: np.ndarray) -> list[tuple[float, float]]:
    step = TIMELINE_SIZE[0] / len(parts)
    return [(round(at * step, 1), round(step, 1)) for at in np.flatnonzero(parts).tolist()]


def _rendered(data: ReportData, cards: list[_Card], searches: _Searches) -> str:
    import jinja2

    from pipeline import __version__
    from pipeline.report import printable

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Names may hold what turns the direction of a line, or ends it.
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.filters |= {
        "thousands": lambda value: f"{value:,.0f}",
        "said": said,
        "clock": clock,
        "size": _size,
        "words": _words,
    }
    runs = data.runs[-_RUNS:]
    colors = _stage_colors(runs)
    return environment.get_template("report.html").render(
        data=data,
        cards=cards,
        searches=searches,
        runs=list(reversed(runs)),
        more_runs=len(data.runs) - len(runs),
        fastest=max((run.frames_per_s for run in runs), default=0.0),
        stage_colors=colors,
        classes=data.classes[:_CLASSES],
        track_classes=data.tracks.classes[:_CLASSES],
        boxes=sum(one.boxes for one in data.classes),
        failures=data.failures[:_FAILURES],
        unreadable=data.videos.num_rows - len(data.videos.column("video_id").drop_null()),
        hex_of=hex_of,
        most_classes=_VIDEO_CLASSES,
        timeline_size=TIMELINE_SIZE,
        made_at=f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC",
        version=__version__,
    )


def _stage_colors(runs: list[RunFacts]) -> dict[str, str]:
    names = list(dict.fromkeys(name for run in runs for name, _ in run.stages if name != "wait"))
    colors = {name: _STAGE_COLORS[at % len(_STAGE_COLORS)] for at, name in enumerate(names)}
    return colors | {"wait": _WAIT_COLOR} if colors else {}


def _size(nbytes: int) -> str:
    units = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
    for unit, name in units:
        if nbytes >= unit:
            return f"{nbytes / unit:,.1f} {name}"
    return f"{nbytes} bytes"


def _words(identity: dict[str, Any]) -> str:
    """What of an analysis' identity can be said in a few words."""
    parts = [str(identity[key]) for key in ("backend", "precision") if identity.get(key)]
    if identity.get("threshold") is not None:
        parts.append(f"scores from {identity['threshold']}")
    sampling = identity.get("sampling")
    if isinstance(sampling, dict):
        parts += [f"{key} {value}" for key, value in sampling.items() if value is not None]
    return ", ".join(parts)
