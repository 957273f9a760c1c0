"""`frameledger verify`: hold an output against itself, without opening a single video.

What every table should say follows from `indexes` (which frames a video has) and the identity of
the frames analysis (which of them are sampled). Goes over groups of videos, so memory depends on
`group_frames` and not on the corpus.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipeline.errors import UsageError
from pipeline.ledger.audit import Finding, FrameFacts, Group, Landed
from pipeline.ledger.books import latest_rows
from pipeline.ledger.catchup import find_lag
from pipeline.ledger.delta import RecordedAnalysis, read_analyses
from pipeline.ledger.indexes import index_of
from pipeline.ledger.keys import keys_of
from pipeline.ledger.scan import read_batches, read_table
from pipeline.ledger.schema import DATA_TABLES, plain
from pipeline.ledger.store import Store
from pipeline.records import VideoIndex

GROUP_FRAMES = 500_000
_FRAME_COLUMNS = ["video_id", "frame_index", "pts", "pts_s", "is_keyframe", "width", "height"]
_COLUMNS = {
    "frames": [*_FRAME_COLUMNS, "status"],
    "embeddings": ["video_id", "frame_index"],
    "detections": [
        *("video_id", "frame_index", "detection_index"),
        *("x1", "y1", "x2", "y2", "score"),
    ],
}


@dataclass
class VerifyReport:
    """What was found, and how much was looked at."""

    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    """Videos, shards, and rows per data table that were checked."""

    @property
    def sound(self) -> bool:
        return not self.findings

    def count(self, what: str, number: int) -> None:
        self.counts[what] = self.counts.get(what, 0) + number


def verify(output: str, group_frames: int = GROUP_FRAMES) -> VerifyReport:
    """Audit an output; works while a run is writing.

    Checks that every sampled frame of every shard that landed is in `frames` exactly once, with
    the pts of its index; that detections and embeddings belong to frames that could be decoded,
    one embedding each; that boxes are numbered, finite and inside their frame and scores are
    between 0 and 1; that `shards` agrees with the rows; and that every shard of a video that is
    ok has landed. Superseded analyses and contents are checked like the current ones.

    Raises UsageError where `output` holds no tables.
    """
    store = Store(output)
    if not store.exists("videos"):
        raise UsageError(f"{output} is no frameledger output: it has no table videos")
    audit = _Audit(store)
    for low, high in _groups(audit.data["indexes"], group_frames):
        audit.check(low, high)
    audit.check_videos()
    return audit.report


def _groups(indexes: ds.Dataset, most: int) -> Iterator[tuple[str | None, str | None]]:
    """Bounds (above, up to) on video_id that cover all ids there may be, `most` frames each."""
    rows = read_table(indexes, ["video_id", "frame_count"]).sort_by("video_id")
    ids = rows.column("video_id")
    frames = np.cumsum(rows.column("frame_count").to_numpy())
    low: str | None = None
    done = 0
    while len(frames) and frames[-1] - done > most:
        at = max(int(np.searchsorted(frames, done + most, "right")) - 1, 0)
        if low is not None and ids[at].as_py() <= low:
            at = int(np.searchsorted(frames, done, "right"))  # one video longer than a group
        if at >= len(ids) - 1:
            break
        high = ids[at].as_py()
        yield low, high
        low, done = high, int(frames[at])
    yield low, None


def _between(low: str | None, high: str | None) -> pc.Expression | None:
    wanted = None if low is None else pc.field("video_id") > low
    if high is not None:
        below = pc.field("video_id") <= high
        wanted = below if wanted is None else wanted & below
    return wanted


class _Audit:
    """One snapshot of an output, and what has been found in it."""

    def __init__(self, store: Store) -> None:
        self.report = VerifyReport()
        # In the reverse order of commits: whatever the first ones name, the later ones have.
        order = ("videos", "shards", *reversed(DATA_TABLES), "indexes")
        snapshots = {name: store.open(name) for name in order}
        self.data = {name: store.dataset(name, snapshots[name]) for name in order}
        self._lag = find_lag(store, snapshots).rows
        self._analyses = {a.fingerprint: a for a in read_analyses(store)}
        self._complete: dict[str, set[bytes]] = {f: set() for f in self._analyses}
        self._empty: set[bytes] = set()
        for table in DATA_TABLES:
            there = {partition["analysis"] for partition in snapshots[table].partitions()}
            for name in sorted(there - set(self._analyses)):
                what = "rows of an analysis that the output does not know"
                self.report.findings.append(Finding(table, None, what, analysis=name))

    def check(self, low: str | None, high: str | None) -> None:
        """All tables for the videos with low < video_id <= high."""
        between = _between(low, high)
        group = Group(self._indexes(between))
        self.report.count("videos", len(group.ids))
        self._empty |= {_short(i.video_id) for i in group.indexes if not i.frame_count}
        shards = self._shards(group, between)
        facts: dict[str, FrameFacts] = {}
        for analysis in self._in_order():
            landed = self._landed(group, shards, analysis)
            batches = self._rows(analysis, between)
            if analysis.table == "frames":
                sampled = group.sampled(analysis.identity["sampling"])  # type: ignore[arg-type]
                name = analysis.fingerprint
                facts[name] = group.frames(name, sampled, landed, batches)
                group.check_counts("frames", name, facts[name].keys, landed)
                self._check_whole(group, shards, name, sampled)
            else:
                seen = facts.get(str(analysis.identity.get("frames")), FrameFacts())
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
            [("shard_index", "count_distinct"), ("shard_count", "max")]
        )
        for row in sums.to_pylist():
            if row["shard_index_count_distinct"] == row["shard_count_max"]:
                self._complete.setdefault(row["analysis"], set()).add(_short(row["video_id"]))

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
        """Every shard of a video that is ok has landed, in each analysis its row speaks of."""
        columns = ["uri", "video_id", "status", "analyses", "recorded_at"]
        rows = read_table(self.data["videos"], columns)
        newest = latest_rows(keys_of(rows.column("uri")), rows.column("recorded_at"))
        rows = rows.take(pa.array(newest))
        rows = rows.filter(pc.equal(rows.column("status"), "ok"))
        for batch in rows.to_batches(max_chunksize=8192):
            for row in batch.to_pylist():
                short = _short(row["video_id"])
                if short in self._empty:
                    continue
                for name in row["analyses"]:
                    if short not in self._complete.get(name, ()):
                        what = f"{row['uri']} is ok, but not all of its shards have landed"
                        finding = Finding("videos", row["video_id"], what, analysis=name)
                        self.report.findings.append(finding)


def _short(video_id: str) -> bytes:
    return video_id[:32].encode()
