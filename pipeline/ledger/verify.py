"""`frameledger verify`: hold an output against itself, without opening a single video.

What every table should say follows from `indexes` (which frames a video has) and the identity of
the frames analysis (which of them are sampled). Goes over groups of videos, so memory depends on
`group_frames` and not on the corpus.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from pipeline.errors import UsageError
from pipeline.ledger.analyses import RecordedAnalysis, analyses_in
from pipeline.ledger.audit import FRAME_BITS, Finding, FrameFacts, Group, Landed
from pipeline.ledger.audit_tracks import check_tracks
from pipeline.ledger.books import latest_rows
from pipeline.ledger.catchup import find_lag
from pipeline.ledger.damage import DamagedOutput, damage_is_said
from pipeline.ledger.groups import groups_of, ids_between
from pipeline.ledger.history import open_store
from pipeline.ledger.indexes import index_of
from pipeline.ledger.keys import keys_of
from pipeline.ledger.on_disk import damaged_files, sizes_of, unnamed_files
from pipeline.ledger.scan import read_batches, read_table
from pipeline.ledger.schema import DATA_TABLES, TABLES, plain
from pipeline.ledger.store import Store
from pipeline.records import VideoIndex

GROUP_FRAMES = 500_000
_FRAME_COLUMNS = [
    *("video_id", "frame_index", "pts", "pts_s", "is_keyframe"),
    *("width", "height", "clip_index"),
]
_COLUMNS = {
    "frames": [*_FRAME_COLUMNS, "status"],
    "embeddings": ["video_id", "frame_index", "pts_s"],
    "detections": [
        *("video_id", "frame_index", "detection_index", "pts_s"),
        *("x1", "y1", "x2", "y2", "score"),
    ],
    "tracks": [
        *("video_id", "frame_index", "track_id", "detection_index", "pts_s", "state", "mask"),
        *("x1", "y1", "x2", "y2", "score"),
    ],
}


@dataclass
class VerifyReport:
    """What was found, and how much was looked at."""

    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    """Videos, shards, and rows per data table that were checked."""
    unreferenced: int = 0
    """Files on disk that no version of a table names: nothing is wrong with them."""
    unreferenced_bytes: int = 0

    @property
    def sound(self) -> bool:
        return not self.findings

    def count(self, what: str, number: int) -> None:
        self.counts[what] = self.counts.get(what, 0) + number


def verify(
    output: str, group_frames: int = GROUP_FRAMES, as_of: str | datetime.datetime | None = None
) -> VerifyReport:
    """Audit an output; works while a run is writing.

    Checks that every sampled frame of every shard that landed is in `frames` exactly once, with
    the pts of its index; that detections and embeddings belong to frames that could be decoded,
    one embedding each; that boxes are numbered, finite and inside their frame and scores are
    between 0 and 1; that tracks are on such frames, each once, and on detections that are there;
    that `shards` agrees with the rows; that every shard of a video that is ok has landed whole,
    and that whatever a partial one lacks is in `failures`. Superseded analyses
    and contents are checked like the current ones, but for analyses that are being removed.

    With `as_of` the tables are looked at as they were then (see `history.open_store`).

    First of all the files that the tables' logs name are there, of the size that the log says,
    and can be opened; where one is not, rows are not looked at.

    Raises UsageError where `output` holds no tables.
    """
    if not Store(output).exists("videos"):
        raise UsageError(f"{output} is no frameledger output: it has no table videos")
    store = open_store(output, as_of)
    report = VerifyReport()
    try:
        with damage_is_said(store):
            audit = _Audit(store, report)
            if report.findings:
                return report
            for low, high in groups_of(audit.data["indexes"], group_frames):
                audit.check(low, high)
            audit.check_videos()
    except DamagedOutput as error:
        report.findings.append(Finding("output", None, str(error)))
    return report


class _Audit:
    """One snapshot of an output, and what has been found in it."""

    def __init__(self, store: Store, report: VerifyReport) -> None:
        self.report = report
        # In the reverse order of commits: whatever the first ones name, the later ones have.
        order = ("videos", "shards", *reversed(DATA_TABLES), "failures", "indexes")
        snapshots = {name: store.open(name) for name in order}
        for name in (name for name in TABLES if store.exists(name)):
            self._check_files(store, name, snapshots.get(name) or store.open(name))
        if report.findings:
            return
        self.data = {name: store.dataset(name, snapshots[name]) for name in order}
        self._lag = find_lag(store, snapshots).rows
        known = analyses_in(snapshots[table] for table in DATA_TABLES)
        self._leaving = {a.fingerprint for a in known if a.leaving}
        self._analyses = {a.fingerprint: a for a in known if not a.leaving}
        self._complete: dict[str, set[bytes]] = {f: set() for f in self._analyses}
        self._part: dict[str, dict[bytes, tuple[set[int], int]]] = {}
        """Of videos that are not whole: the shards that have landed, and of how many."""
        self._frame_counts: dict[bytes, int] = {}
        self._lacking: dict[str, set[bytes]] = {f: set() for f in self._analyses}
        """Per frames analysis the videos of which frames could not be decoded."""
        for table in DATA_TABLES:
            there = {partition["analysis"] for partition in snapshots[table].partitions()}
            for name in sorted(there - set(self._analyses) - self._leaving):
                what = "rows of an analysis that the output does not know"
                self.report.findings.append(Finding(table, None, what, analysis=name))

    def _check_files(self, store: Store, table: str, snapshot: DeltaTable) -> None:
        for path, wrong in damaged_files(store, table, snapshot):
            what = f"{path}: {wrong}; bring it back from a copy"
            self.report.findings.append(Finding(table, None, what))
        if store.is_past:
            return
        orphaned = unnamed_files(store, table, snapshot).orphaned
        sizes = sizes_of(store, table) if orphaned else {}
        self.report.unreferenced += len(orphaned)
        self.report.unreferenced_bytes += sum(sizes.get(path, 0) for path in orphaned)

    def check(self, low: str | None, high: str | None) -> None:
        """All tables for the videos with low < video_id <= high."""
        between = ids_between(low, high)
        group = Group(self._indexes(between))
        self.report.count("videos", len(group.ids))
        self._frame_counts |= {_short(i.video_id): i.frame_count for i in group.indexes}
        lost = self._lost(between)
        shards = self._shards(group, between)
        facts: dict[str, FrameFacts] = {}
        for analysis in self._in_order():
            landed = self._landed(group, shards, analysis)
            batches = self._rows(analysis, between)
            if analysis.table == "frames":
                sampled = group.sampled(analysis.identity["sampling"])  # type: ignore[arg-type]
                name = analysis.fingerprint
                grid = analysis.identity.get("clip")
                facts[name] = group.frames(name, sampled, landed, batches, grid)
                failed = facts[name].keys[~facts[name].ok]
                videos = np.unique(failed >> FRAME_BITS)
                self._lacking[name] |= {_short(group.ids[video]) for video in videos}
                group.accounted_for(name, failed, lost)
                group.check_counts("frames", name, facts[name].keys, landed)
                self._check_whole(group, shards, name, sampled)
            else:
                seen = facts.get(str(analysis.identity.get("frames")), FrameFacts())
                if analysis.table == "tracks":
                    boxes = str(analysis.identity.get("detections"))
                    check_tracks(group, analysis.fingerprint, boxes, seen, landed, batches)
                    continue
                check = group.detections if analysis.table == "detections" else group.embeddings
                check(analysis.fingerprint, seen, landed, batches)
        self.report.findings += group.findings

    def _indexes(self, between: pc.Expression | None) -> list[VideoIndex]:
        found: dict[str, VideoIndex] = {}
        for batch in read_batches(self.data["indexes"], None, between, 64):
            for at in range(len(batch)):
                index = index_of(batch, at)
                if index.video_id in found:
                    what = "video has more than one index"
                    self.report.findings.append(Finding("indexes", index.video_id, what))
                found[index.video_id] = index
        return list(found.values())

    def _lost(self, between: pc.Expression | None) -> pa.Table:
        """Frame ranges that `failures` names, of the group's videos."""
        ranges = pc.field("first_frame").is_valid() & pc.field("last_frame").is_valid()
        wanted = ranges if between is None else ranges & between
        columns = ["video_id", "first_frame", "last_frame"]
        return read_table(self.data["failures"], columns, wanted)

    def _in_order(self) -> list[RecordedAnalysis]:
        """Frames analyses first: the others are held against them."""
        return sorted(self._analyses.values(), key=lambda a: DATA_TABLES.index(a.table))

    def _rows(
        self, analysis: RecordedAnalysis, between: pc.Expression | None
    ) -> Iterator[pa.RecordBatch]:
        mine = pc.field("analysis") == analysis.fingerprint
        wanted = mine if between is None else mine & between
        columns = _COLUMNS[analysis.table]
        for batch in read_batches(self.data[analysis.table], columns, wanted):
            self.report.count(analysis.table, len(batch))
            yield batch

    # -- shards -----------------------------------------------------------------------

    def _shards(self, group: Group, between: pc.Expression | None) -> pa.Table:
        """The group's shards rows, each once; what is wrong with them alone is reported."""
        lag = self._lag if between is None else self._lag.filter(between)
        rows = pa.concat_tables(
            [read_table(self.data["shards"], None, between).cast(plain("shards")), lag]
        )
        leaving = pa.array(sorted(self._leaving), pa.string())
        rows = rows.filter(pc.invert(pc.is_in(rows.column("analysis"), leaving)))
        self.report.count("shards", len(rows))
        ids = rows.column("shard_id").to_pylist()
        first: dict[str, int] = {}
        for at, name in enumerate(ids):
            if name in first:
                video = rows.column("video_id")[at].as_py()
                finding = Finding("shards", video, "shard has more than one row", shard=name)
                group.findings.append(finding)
            first.setdefault(name, at)
        rows = rows.take(pa.array(list(first.values()), pa.int64()))
        strangers = set(rows.column("analysis").unique().to_pylist()) - set(self._analyses)
        for name in sorted(strangers):
            what = "shards of an analysis that the output does not know"
            group.findings.append(Finding("shards", None, what, analysis=name))
        self._note_complete(rows)
        return rows

    def _note_complete(self, rows: pa.Table) -> None:
        """Remember which videos are whole in which analysis, 32 bytes each."""
        sums = rows.group_by(["analysis", "video_id"]).aggregate(
            [("shard_index", "distinct"), ("shard_count", "max")]
        )
        for row in sums.to_pylist():
            numbers, count = set(row["shard_index_distinct"]), row["shard_count_max"]
            name, video = row["analysis"], _short(row["video_id"])
            if len(numbers) == count:
                self._complete.setdefault(name, set()).add(video)
            else:
                self._part.setdefault(name, {})[video] = numbers, count

    def _landed(self, group: Group, shards: pa.Table, analysis: RecordedAnalysis) -> Landed:
        mine = shards.filter(pc.equal(shards.column("analysis"), analysis.fingerprint))
        numbers = {video: at for at, video in enumerate(group.ids)}
        video = [numbers.get(name, -1) for name in mine.column("video_id").to_pylist()]
        known = np.array(video, np.int64) >= 0
        for row in mine.filter(pa.array(~known)).to_pylist():
            what = "shard of a video without an index"
            group.findings.append(Finding("shards", row["video_id"], what, None, row["shard_id"]))
        mine = mine.filter(pa.array(known))
        return Landed(
            video=np.array(video, np.int64)[known],
            first=mine.column("first_frame").to_numpy(),
            last=mine.column("last_frame").to_numpy(),
            rows=mine.column("rows").to_numpy(),
            names=mine.column("shard_id").to_pylist(),
        )

    def _check_whole(
        self, group: Group, shards: pa.Table, frames_analysis: str, sampled: np.ndarray
    ) -> None:
        """Where all shards of a video have landed, they have all its sampled frames."""
        linked = {frames_analysis} | {
            a.fingerprint
            for a in self._analyses.values()
            if a.identity.get("frames") == frames_analysis
        }
        sums = shards.group_by(["analysis", "video_id"]).aggregate([("frames", "sum")])
        counts = np.bincount(sampled >> 40, minlength=len(group.ids))
        wanted = dict(zip(group.ids, counts.tolist(), strict=True))
        for row in sums.to_pylist():
            video, name = row["video_id"], row["analysis"]
            if name not in linked or _short(video) not in self._complete.get(name, ()):
                continue
            if video in wanted and row["frames_sum"] != wanted[video]:
                what = f"all shards have landed with {row['frames_sum']} of {wanted[video]} frames"
                group.findings.append(Finding("shards", video, what, analysis=name))

    # -- videos -----------------------------------------------------------------------

    def check_videos(self) -> None:
        """What the rows of `videos` say of each file is so."""
        columns = ["uri", "video_id", "status", "analyses", "frame_count", "recorded_at"]
        rows = read_table(self.data["videos"], columns)
        newest = latest_rows(keys_of(rows.column("uri")), rows.column("recorded_at"))
        rows = rows.take(pa.array(newest))
        rows = rows.filter(rows.column("video_id").is_valid())
        for batch in rows.to_batches(max_chunksize=8192):
            for row in batch.to_pylist():
                for what, analysis in self._faults(row):
                    finding = Finding("videos", row["video_id"], what, analysis=analysis)
                    self.report.findings.append(finding)

    def _faults(self, row: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
        uri, status, short = row["uri"], row["status"], _short(row["video_id"])
        count = self._frame_counts.get(short)
        if count is None:
            yield f"{uri} has no index", None
            return
        if row["frame_count"] != count:
            yield f"{uri}: frame_count is {row['frame_count']}, its index has {count}", None
        # Those that the row speaks of: with another clip length another clip is quarantined.
        lacking = (name for name in row["analyses"] or () if short in self._lacking.get(name, ()))
        if status == "ok" and any(lacking):
            yield f"{uri} is ok, but some of its frames could not be decoded", None
        for name in row["analyses"] if count else ():
            if name in self._leaving or short in self._complete.get(name, ()):
                continue
            if status == "ok":
                yield f"{uri} is ok, but not all of its shards have landed", name
                continue
            numbers, of = self._part.get(name, {}).get(short, (set(), 0))
            lost = self._given_up.get((name, short), set()) - numbers
            if not lost or len(numbers | lost) < of:
                yield f"{uri} is {status}, but failures do not say what is missing", name

    @cached_property
    def _given_up(self) -> dict[tuple[str, bytes], set[int]]:
        """Shards that `failures` names, by analysis and video."""
        wanted = pc.field("shard_index").is_valid() & pc.field("analysis").is_valid()
        found: dict[tuple[str, bytes], set[int]] = {}
        columns = ["analysis", "video_id", "shard_index"]
        for batch in read_batches(self.data["failures"], columns, wanted):
            for row in batch.to_pylist():
                key = row["analysis"], _short(row["video_id"])
                found.setdefault(key, set()).add(row["shard_index"])
        return found


def _short(video_id: str) -> bytes:
    return video_id[:32].encode()
