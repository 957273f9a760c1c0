"""The checks of `verify` on one group of videos: numpy arrays in, findings out.

A frame of a group is one int64 key, `number of the video << 40 | frame_index`, so that "exactly
once" is a comparison of sorted arrays.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.records import VideoIndex
from pipeline.sources.plan import owners
from pipeline.sources.sampling import sampled_frames

FRAME_BITS = 40
_NONE = np.empty(0, np.int64)
_TIMES = ("pts", "pts_s", "is_keyframe")
_FRAME_MASK = (1 << FRAME_BITS) - 1
TOLERANCE_PX = 0.01
"""A box may leave its frame by this much: float32 rounding at the widest frames is 0.001."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be."""

    table: str
    video_id: str | None
    what: str
    frame: int | None = None
    """The first frame concerned, where frames are."""
    shard: str | None = None
    count: int = 1
    """How many rows, frames or shards of this video have the same fault."""
    analysis: str | None = None

    def __str__(self) -> str:
        where = [self.table]
        where += [f"analysis {self.analysis}"] if self.analysis else []
        where += [f"video {self.video_id}"] if self.video_id else []
        where += [f"shard {self.shard}"] if self.shard else []
        where += [f"frame {self.frame}"] if self.frame is not None else []
        more = f" ({self.count:,} in this video)" if self.count > 1 else ""
        return f"{', '.join(where)}: {self.what}{more}"


@dataclass(frozen=True)
class Landed:
    """The shards of a group that have landed in one analysis."""

    video: np.ndarray
    """int64 (n,): number of the video in its group."""
    first: np.ndarray
    last: np.ndarray
    """int64 (n,): frame range, inclusive."""
    rows: np.ndarray
    """int64 (n,): rows that the shard says it has."""
    names: list[str]


@dataclass
class FrameFacts:
    """The `frames` rows of a group in one analysis, sorted by key, each once."""

    keys: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    ok: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    size: np.ndarray = field(default_factory=lambda: np.empty((0, 2), np.int64))

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(at, found): where each key is, and whether it is there at all."""
        at = np.minimum(np.searchsorted(self.keys, keys), max(len(self.keys) - 1, 0))
        found = self.keys[at] == keys if len(self.keys) else np.zeros(len(keys), bool)
        return at, found


class Group:
    """Some videos with their indices, and the findings about them."""

    def __init__(self, indexes: list[VideoIndex]) -> None:
        self.indexes = sorted(indexes, key=lambda index: index.video_id)
        self.ids = [index.video_id for index in self.indexes]
        self.findings: list[Finding] = []
        self.boxes: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        """Per detections analysis: int64 keys of frames with boxes, sorted, and how many each."""
        self._lookup = pa.array(self.ids, pa.string())
        counts = [index.frame_count for index in self.indexes]
        self._begin = np.cumsum([0, *counts])
        self._pts = np.concatenate([_NONE, *(index.pts for index in self.indexes)])
        ticks = [(i.time_base.numerator, i.time_base.denominator) for i in self.indexes]
        self._ticks = np.array(ticks, np.float64).reshape(-1, 2)
        marks = [
            np.int64(video << FRAME_BITS) | index.keyframes
            for video, index in enumerate(self.indexes)
        ]
        self._keyframes = np.concatenate([_NONE, *marks])

    def keys(self, table: str, analysis: str, rows: pa.RecordBatch | pa.Table) -> np.ndarray:
        """Key per row; -1, and a finding, where there is no such video or frame."""
        ids = rows.column("video_id")
        video = pc.fill_null(pc.index_in(ids, self._lookup), -1).to_numpy(zero_copy_only=False)
        frame = rows.column("frame_index").to_numpy(zero_copy_only=False)
        counts = np.array([*(i.frame_count for i in self.indexes), 0], np.int64)
        inside = (frame >= 0) & (frame < counts[video])
        for stranger in pc.unique(ids.filter(pa.array(video < 0))).to_pylist():
            self.findings.append(
                Finding(table, stranger, "rows of a video without an index", analysis=analysis)
            )
        outside = (video >= 0) & ~inside
        keys = video.astype(np.int64) << FRAME_BITS | frame & _FRAME_MASK
        self.report(table, analysis, keys[outside], "no such frame in the video")
        return np.where(inside, keys, -1)

    def report(self, table: str, analysis: str | None, keys: np.ndarray, what: str) -> None:
        """One finding per video that has any of `keys`."""
        if not len(keys):
            return
        keys = np.sort(keys)
        videos, begins, counts = np.unique(
            keys >> FRAME_BITS, return_index=True, return_counts=True
        )
        for video, begin, count in zip(videos, begins, counts, strict=True):
            frame = int(keys[begin] & _FRAME_MASK)
            found = Finding(table, self.ids[video], what, frame, None, int(count), analysis)
            self.findings.append(found)

    def sampled(self, sampling: dict[str, object]) -> np.ndarray:
        """Sorted keys of all frames that a frames analysis looks at."""
        parts = [
            np.int64(video << FRAME_BITS) | sampled_frames(index, sampling)
            for video, index in enumerate(self.indexes)
        ]
        return np.concatenate([_NONE, *parts])

    # -- frames -----------------------------------------------------------------------

    def frames(
        self,
        analysis: str,
        sampled: np.ndarray,
        landed: Landed,
        batches: Iterable[pa.RecordBatch],
        grid: Any = None,
    ) -> FrameFacts:
        """Every sampled frame of a landed shard exactly once, with the index's pts.

        Args:
            sampled: sorted keys of all frames that are looked at.
            grid: length and stride of the clips, as the analysis keeps them.
        """
        parts = []
        for batch in batches:
            keys = self.keys("frames", analysis, batch)
            self._check_times(analysis, keys, batch)
            if grid is not None:
                self._check_clips(analysis, keys, batch, sampled, grid)
            ok = pc.equal(batch.column("status"), "ok").to_numpy(zero_copy_only=False)
            sides = [batch.column(name).to_numpy() for name in ("width", "height")]
            parts.append((keys, ok, np.stack(sides, axis=1).astype(np.int64)))
        if not parts:
            parts = [(_NONE, np.empty(0, bool), np.empty((0, 2), np.int64))]
        keys, ok, size = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(keys, kind="stable")
        order = order[keys[order] >= 0]
        keys, ok, size = keys[order], ok[order], size[order]
        wanted = self.owned("frames", analysis, sampled, landed)
        keys, first = self._exactly_once("frames", analysis, keys, wanted)
        return FrameFacts(keys, ok[first], size[first])

    def _check_times(self, analysis: str, keys: np.ndarray, batch: pa.RecordBatch) -> None:
        sound = keys >= 0
        keys = keys[sound]
        columns = [batch.column(n).to_numpy(zero_copy_only=False) for n in _TIMES]
        pts, seconds, is_key = (column[sound] for column in columns)
        video, frame = keys >> FRAME_BITS, keys & _FRAME_MASK
        wrong = self._pts[self._begin[video] + frame] != pts
        self.report("frames", analysis, keys[wrong], "pts is not the index's")
        self._check_seconds("frames", analysis, keys[~wrong], seconds[~wrong])
        at = np.minimum(np.searchsorted(self._keyframes, keys), max(len(self._keyframes) - 1, 0))
        wrong = (self._keyframes[at] == keys) != is_key
        self.report("frames", analysis, keys[wrong], "is_keyframe is not the index's")

    def _check_seconds(
        self, table: str, analysis: str, keys: np.ndarray, seconds: np.ndarray
    ) -> None:
        """`keys` all of frames that there are."""
        video, frame = keys >> FRAME_BITS, keys & _FRAME_MASK
        pts = self._pts[self._begin[video] + frame].astype(np.float64)
        true_s = pts * self._ticks[video, 0] / self._ticks[video, 1]
        late = ~(np.abs(true_s - seconds) <= 1e-9)
        self.report(table, analysis, keys[late], "pts_s is not that of pts")

    def _check_clips(
        self, analysis: str, keys: np.ndarray, batch: pa.RecordBatch, sampled: np.ndarray, grid: Any
    ) -> None:
        number = batch.column("clip_index").to_numpy(zero_copy_only=False)[keys >= 0]
        keys = keys[keys >= 0]
        at = np.searchsorted(sampled, keys)
        known = at < len(sampled)
        known[known] = sampled[at[known]] == keys[known]
        keys, number, at = keys[known], number[known], at[known]
        video = keys >> FRAME_BITS
        begin = np.searchsorted(sampled, video << FRAME_BITS)
        end = np.searchsorted(sampled, (video + 1) << FRAME_BITS)
        true = owners(at - begin, end - begin, grid["length"], grid["stride"])
        what = "clip_index is not the clip that owns the frame"
        self.report("frames", analysis, keys[number != true], what)

    def accounted_for(self, analysis: str, failed: np.ndarray, lost: pa.Table) -> None:
        """Each of the `failed` keys lies in a range that `lost`, rows of failures, names."""
        if not len(failed):
            return
        video = pc.fill_null(pc.index_in(lost.column("video_id"), self._lookup), -1).to_numpy()
        first, last = (lost.column(name).to_numpy() for name in ("first_frame", "last_frame"))
        here = video >= 0
        base = video[here].astype(np.int64) << FRAME_BITS
        lo = np.searchsorted(failed, base | first[here], "left")
        hi = np.searchsorted(failed, base | last[here], "right")
        covered = np.zeros(len(failed) + 1, np.int64)
        np.add.at(covered, lo, 1)
        np.add.at(covered, hi, -1)
        silent = failed[np.cumsum(covered)[:-1] <= 0]
        self.report("frames", analysis, silent, "failed frame that failures do not speak of")

    def owned(self, table: str, analysis: str, keys: np.ndarray, landed: Landed) -> np.ndarray:
        """Those of the sorted `keys` that a landed shard owns; overlaps are a finding."""
        lo = np.searchsorted(keys, landed.video << FRAME_BITS | landed.first, "left")
        hi = np.searchsorted(keys, landed.video << FRAME_BITS | landed.last, "right")
        times = np.zeros(len(keys) + 1, np.int64)
        np.add.at(times, lo, 1)
        np.add.at(times, hi, -1)
        times = np.cumsum(times)[:-1]
        self.report("shards", analysis, keys[times > 1], "frame of more than one landed shard")
        return keys[times > 0]

    def _exactly_once(
        self, table: str, analysis: str, keys: np.ndarray, wanted: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Hold sorted `keys` against sorted `wanted`. Returns distinct keys and their rows."""
        distinct, first, times = np.unique(keys, return_index=True, return_counts=True)
        self.report(table, analysis, distinct[times > 1], "frame has more than one row")
        lost = np.setdiff1d(wanted, distinct, assume_unique=True)
        self.report(table, analysis, lost, "frame of a landed shard has no row")
        extra = np.setdiff1d(distinct, wanted, assume_unique=True)
        what = "row of a frame that no landed shard has"
        if table == "embeddings":
            what = "row of a frame that is not ok in frames, or of no landed shard"
        self.report(table, analysis, extra, what)
        return distinct, first

    # -- detections and embeddings ----------------------------------------------------

    def timed_keys(self, table: str, analysis: str, batch: pa.RecordBatch) -> np.ndarray:
        keys = self.keys(table, analysis, batch)
        seconds = batch.column("pts_s").to_numpy(zero_copy_only=False)
        self._check_seconds(table, analysis, keys[keys >= 0], seconds[keys >= 0])
        return keys

    def embeddings(
        self, analysis: str, facts: FrameFacts, landed: Landed, batches: Iterable[pa.RecordBatch]
    ) -> None:
        """Exactly one row for every frame that could be decoded."""
        parts = [self.timed_keys("embeddings", analysis, batch) for batch in batches]
        keys = np.sort(np.concatenate([_NONE, *parts]))
        keys = keys[keys >= 0]
        wanted = self.owned("embeddings", analysis, facts.keys[facts.ok], landed)
        self._exactly_once("embeddings", analysis, keys, wanted)
        self.check_counts("embeddings", analysis, keys, landed)

    def detections(
        self, analysis: str, facts: FrameFacts, landed: Landed, batches: Iterable[pa.RecordBatch]
    ) -> None:
        """Rows of ok frames only, numbered 0 .. n-1 within a frame, boxes inside it."""
        parts = [(_NONE, _NONE)]
        for batch in batches:
            keys = self.timed_keys("detections", analysis, batch)
            at, found = facts.find(keys)
            orphan = (keys >= 0) & ~(found & facts.ok[at] if len(facts.ok) else found)
            self.report("detections", analysis, keys[orphan], "box of a frame that is not ok")
            sound = (keys >= 0) & ~orphan
            if sound.any():
                size = facts.size[at[sound]]
                few = batch.filter(pa.array(sound))
                self.check_sides("detections", analysis, keys[sound], size, few)
                self.check_scores("detections", analysis, keys[sound], few)
            number = batch.column("detection_index").to_numpy(zero_copy_only=False)
            parts.append((keys[keys >= 0], number[keys >= 0].astype(np.int64)))
        keys, number = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((number, keys))
        keys, number = keys[order], number[order]
        begins = np.append([True], keys[1:] != keys[:-1]) if len(keys) else np.empty(0, bool)
        starts = np.flatnonzero(begins)
        lengths = np.diff(np.append(starts, len(keys)))
        wrong = number != np.arange(len(keys)) - np.repeat(starts, lengths)
        what = "detection_index does not count 0, 1, 2 ... (a box twice or lost)"
        self.report("detections", analysis, np.unique(keys[wrong]), what)
        self.boxes[analysis] = keys[starts], lengths
        inside = self.owned("detections", analysis, np.unique(keys), landed)
        stray = np.setdiff1d(np.unique(keys), inside, assume_unique=True)
        self.report("detections", analysis, stray, "box of a frame that no landed shard has")
        self.check_counts("detections", analysis, keys, landed)

    def check_sides(
        self, table: str, analysis: str, keys: np.ndarray, size: np.ndarray, batch: pa.RecordBatch
    ) -> None:
        """Boxes are finite, upright and inside their frame, of width and height `size`."""
        columns = [batch.column(n).to_numpy(zero_copy_only=False) for n in ("x1", "y1", "x2", "y2")]
        x1, y1, x2, y2 = (column.astype(np.float64) for column in columns)
        finite = np.isfinite(np.stack([x1, y1, x2, y2])).all(axis=0)
        self.report(table, analysis, keys[~finite], "box with a value that is no number")
        turned = finite & ((x1 > x2) | (y1 > y2))
        self.report(table, analysis, keys[turned], "box with x1 > x2 or y1 > y2")
        width, height = size[:, 0] + TOLERANCE_PX, size[:, 1] + TOLERANCE_PX
        low = np.minimum(np.minimum(x1, x2), np.minimum(y1, y2))
        outside = (low < -TOLERANCE_PX) | (np.maximum(x1, x2) > width)
        outside = finite & (outside | (np.maximum(y1, y2) > height))
        self.report(table, analysis, keys[outside], "box outside its frame")

    def check_scores(
        self, table: str, analysis: str, keys: np.ndarray, batch: pa.RecordBatch
    ) -> None:
        """Scores are between 0 and 1."""
        score = batch.column("score").to_numpy(zero_copy_only=False)
        bad = ~((score >= 0) & (score <= 1))  # also where it is no number
        self.report(table, analysis, keys[bad], "score is not between 0 and 1")

    def check_counts(self, table: str, analysis: str, keys: np.ndarray, landed: Landed) -> None:
        """The rows of each shard are as many as `shards` says; `keys` sorted."""
        lo = np.searchsorted(keys, landed.video << FRAME_BITS | landed.first, "left")
        hi = np.searchsorted(keys, landed.video << FRAME_BITS | landed.last, "right")
        for at in np.flatnonzero(hi - lo != landed.rows):
            video, said = self.ids[landed.video[at]], int(landed.rows[at])
            what = f"{int(hi[at] - lo[at])} rows in {table}, {said} according to shards"
            shard = landed.names[at]
            self.findings.append(Finding("shards", video, what, shard=shard, analysis=analysis))
