"""What a report of an output says, gathered from its tables: numbers and names, nothing drawn.

Rows are streamed and counted; what is kept grows with the number of videos and of classes only.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ledger.reader import Ledger
from pipeline.ledger.runs import read_runs
from pipeline.ledger.status import OutputStatus, status
from pipeline.results.report_tracks import TrackCounts, count_tracks

_BATCH_ROWS = 65536
_EXAMPLES = 3
_NUMBER = re.compile(r"\d[\d,.]*")


@dataclass(frozen=True)
class RunFacts:
    """One run: what it came to, and what its time went into."""

    row: dict[str, Any]
    """Of `runs`, with its `state`."""
    stages: list[tuple[str, float]]
    """(name, seconds) of what workers did, waiting last; empty where the run has not said."""
    startup_s: float
    commit_s: float
    track_s: float

    @property
    def frames_per_s(self) -> float:
        steady_s = self.row["steady_s"] or 0.0
        return self.row["frames"] / steady_s if steady_s > 0 else 0.0

    @property
    def took_s(self) -> float | None:
        if self.row["ended_at"] is None:
            return None
        return float((self.row["ended_at"] - self.row["started_at"]).total_seconds())


@dataclass
class FailureGroup:
    """Failures that differ in numbers only."""

    stage: str
    reason: str
    """That of the first, or with N for numbers where they differ."""
    count: int = 0
    uris: set[str] = field(default_factory=set)
    examples: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ClassCount:
    """Boxes of one class, over all current videos."""

    class_id: int
    name: str
    boxes: int


@dataclass(frozen=True)
class ReportData:
    """Everything but what is said of single videos."""

    output: str
    status: OutputStatus
    videos: pa.Table
    """The current row of each uri."""
    runs: list[RunFacts]
    """The first run first."""
    failures: list[FailureGroup]
    """Of videos that are not ok now, the most frequent first."""
    resolved: int
    """Rows of `failures` that are of videos which are ok now, or of contents that are gone."""
    classes: list[ClassCount]
    """The most frequent first."""
    tracks: TrackCounts

    def rows_of(self, table: str) -> int:
        """Rows that the newest analyses wrote to a data table, of all contents of files."""
        return sum(a.rows for a in self.status.analyses if a.current and a.table == table)

    @property
    def video_s(self) -> float:
        """Duration of all videos that could be indexed."""
        return float(pc.sum(self.videos.column("duration_s")).as_py() or 0.0)


def gather(output: str) -> ReportData:
    """Read what a report says. Raises UsageError where `output` is none."""
    ledger = Ledger(output)
    videos = ledger.videos()
    failures, resolved = group_failures(ledger, videos)
    return ReportData(
        output=output,
        status=status(output),
        videos=videos,
        runs=[_run(row) for row in read_runs(output)],
        failures=failures,
        resolved=resolved,
        classes=count_classes(ledger),
        tracks=count_tracks(ledger),
    )


def _run(row: dict[str, Any]) -> RunFacts:
    times = json.loads(row.get("stages") or "{}")
    stages: list[tuple[str, float]] = []
    if times:
        stages = [("decode", times["decode_s"]), *sorted(times["analyze_s"].items())]
        stages.append(("wait", times["wait_s"]))
    own = {name: times.get(name, 0.0) for name in ("startup_s", "commit_s", "track_s")}
    return RunFacts(row, stages, **own)


def group_failures(ledger: Ledger, videos: pa.Table) -> tuple[list[FailureGroup], int]:
    """Failures of the videos that are not ok, grouped; and how many rows are of others."""
    bad = videos.filter(pc.not_equal(videos.column("status"), "ok"))
    now = set(zip(bad.column("uri").to_pylist(), bad.column("stamp").to_pylist(), strict=True))
    groups: dict[tuple[str, str], FailureGroup] = {}
    seen: set[int] = set()
    resolved = 0
    columns = ["uri", "stamp", "stage", "reason", "first_frame", "last_frame"]
    for batch in ledger.batches("failures", columns, batch_rows=_BATCH_ROWS):
        for row in batch.to_pylist():
            if (row["uri"], row["stamp"]) not in now:
                resolved += 1
                continue
            # A retry that failed again says the same once more.
            same = hash((row["uri"], row["stage"], row["reason"], row["first_frame"]))
            if same in seen:
                continue
            seen.add(same)
            _add(groups, row)
    return sorted(groups.values(), key=lambda g: (-g.count, g.stage, g.reason)), resolved


def _add(groups: dict[tuple[str, str], FailureGroup], row: dict[str, Any]) -> None:
    key = row["stage"], _NUMBER.sub("N", row["reason"])
    group = groups.setdefault(key, FailureGroup(row["stage"], row["reason"]))
    if group.reason != row["reason"]:
        group.reason = key[1]
    group.count += 1
    group.uris.add(row["uri"])
    if len(group.examples) < _EXAMPLES:
        frames = ""
        if row["first_frame"] is not None:
            last = "" if row["last_frame"] is None else row["last_frame"]
            frames = f" frames {row['first_frame']}-{last}"
        group.examples.append(f"{row['uri']}{frames}")


def count_classes(ledger: Ledger) -> list[ClassCount]:
    """Boxes per class of the newest detector."""
    counts: Counter[tuple[int, str]] = Counter()
    columns = ["class_id", "class_name"]
    for batch in ledger.batches("detections", columns, batch_rows=_BATCH_ROWS):
        table = pa.Table.from_batches([batch]).group_by(columns).aggregate([([], "count_all")])
        for row in table.to_pylist():
            counts[row["class_id"], row["class_name"]] += row["count_all"]
    found = [ClassCount(i, name, count) for (i, name), count in counts.items()]
    return sorted(found, key=lambda one: (-one.boxes, one.class_id))


@dataclass(frozen=True)
class Timeline:
    """Boxes of one video over time, in equal parts of it."""

    start_s: float
    stop_s: float
    classes: list[ClassCount]
    """The most frequent first."""
    boxes: np.ndarray
    """float64 (classes, parts): boxes per sampled frame; NaN where no frame was sampled."""
    frames: int
    """Sampled frames that were decoded."""
    failed: np.ndarray
    """bool (parts,): whether a frame there could not be had."""


def timeline(ledger: Ledger, video_id: str, parts: int = 96) -> Timeline | None:
    """Count the boxes of a video by class and part of its time; None where it has no frames."""
    mine = pc.field("video_id") == video_id
    rows = ledger.table("frames", ["pts_s", "status"], mine)
    if not rows.num_rows:
        return None
    times = rows.column("pts_s").to_numpy()
    is_ok = pc.equal(rows.column("status"), "ok").to_numpy()
    start, stop = float(times.min()), float(times.max())
    parts = max(1, min(parts, len(np.unique(times))))
    width = (stop - start) / parts or 1.0

    def part_of(seconds: np.ndarray) -> np.ndarray:
        return np.clip(((seconds - start) / width).astype(np.int64), 0, parts - 1)

    frames = np.bincount(part_of(times[is_ok]), minlength=parts)
    failed = np.bincount(part_of(times[~is_ok]), minlength=parts) > 0
    counts: dict[tuple[int, str], np.ndarray] = {}
    columns = ["pts_s", "class_id", "class_name"]
    for batch in ledger.batches("detections", columns, mine, batch_rows=_BATCH_ROWS):
        at = part_of(batch.column("pts_s").to_numpy())
        ids = batch.column("class_id").to_numpy()
        for class_id in np.unique(ids):
            where = np.flatnonzero(ids == class_id)
            key = int(class_id), batch.column("class_name")[int(where[0])].as_py()
            held = counts.setdefault(key, np.zeros(parts))
            held += np.bincount(at[where], minlength=parts)
    order = sorted(counts, key=lambda key: (-counts[key].sum(), key[0]))
    matrix = np.array([counts[key] for key in order]).reshape(len(order), parts)
    with np.errstate(invalid="ignore", divide="ignore"):
        boxes = np.where(frames > 0, matrix / frames, np.nan)
    return Timeline(
        start_s=start,
        stop_s=stop,
        classes=[ClassCount(i, name, int(counts[i, name].sum())) for i, name in order],
        boxes=boxes,
        frames=int(is_ok.sum()),
        failed=failed,
    )
