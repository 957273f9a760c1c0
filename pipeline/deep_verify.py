"""`frameledger verify --deep`: some frames made again from the files, held against the tables.

    choose      some frames, at random, of current videos
    index       each file anew: pts, keyframes and size must be those of its index
    decode      each frame
    analyze     with the configuration's models, where one is given
    compare     with the rows, within the tolerances below

A file that is gone or has other bytes now is passed over, and counted.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.compare import compare_boxes, compare_embeddings, differences
from pipeline.config import Config
from pipeline.engine.job import Job, analyses_of
from pipeline.errors import UsageError, VideoError
from pipeline.ledger.analyses import RecordedAnalysis, newest_analyses
from pipeline.ledger.audit import Finding
from pipeline.ledger.reader import Ledger
from pipeline.records import Analysis, Clip, ClipResult, Shard, ShardTask, Source, VideoIndex
from pipeline.sources.files import find_content
from pipeline.sources.sampling import sampled_frames

SAMPLE = 64


@dataclass
class DeepReport:
    """What was found, and how much was looked at."""

    findings: list[Finding] = field(default_factory=list)
    videos: int = 0
    frames: int = 0
    embeddings: int = 0
    detections: int = 0
    """Frames of which the boxes were compared."""
    passed_over: dict[str, str] = field(default_factory=dict)
    """Files that could not be compared, each with the reason."""


def deep_verify(
    output: str, config: Config | None = None, sample: int = SAMPLE, seed: int | None = None
) -> DeepReport:
    """Make `sample` frames again and compare them.

    Args:
        config: that of the run whose rows are to be compared; without it pts and sizes are.
        seed: chooses the frames; any others each time where None.

    Raises UsageError where the output has no rows of what the configuration names, naming what
    differs.
    """
    ledger = Ledger(output)
    job = Job("", config or Config(), output, analyses_of(config) if config else ())
    frames = _frames_analysis(ledger, job)
    if config is not None:
        _check_known(ledger, job)
    return _Deep(ledger, job, frames, random.Random(seed)).run(sample)


def _frames_analysis(ledger: Ledger, job: Job) -> RecordedAnalysis:
    known = {a.fingerprint: a for a in ledger.analyses()}
    if job.analyses:
        _check_known(ledger, job)
        return known[job.analyses[0].fingerprint]
    newest = newest_analyses(known.values()).get("frames")
    if newest is None:
        raise UsageError(f"{ledger.output}: no frames yet: nothing to compare")
    return newest


def _check_known(ledger: Ledger, job: Job) -> None:
    known = ledger.analyses()
    there = {a.fingerprint for a in known if not a.leaving}
    for analysis in job.analyses:
        if analysis.fingerprint not in there:
            raise UsageError(f"{ledger.output}: {_difference(analysis, known)}")


def _difference(analysis: Analysis, known: list[RecordedAnalysis]) -> str:
    """In one line, why no rows of an analysis are there."""
    newest = newest_analyses(known).get(analysis.name)
    if newest is None:
        return f"it has no rows of any {analysis.name}, which the configuration names"
    keys = sorted({*analysis.identity, *newest.identity})
    differ = [k for k in keys if analysis.identity.get(k) != newest.identity.get(k)]
    sides = ((key, newest.identity.get(key), analysis.identity.get(key)) for key in differ)
    shown = "; ".join(f"{key}: {_short(a)} there, {_short(b)} here" for key, a, b in sides)
    return (
        f"its {analysis.name} is analysis {newest.fingerprint}, the configuration's is "
        f"{analysis.fingerprint} ({shown}); give the configuration that the rows were made with"
    )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


class _Deep:
    def __init__(
        self, ledger: Ledger, job: Job, frames: RecordedAnalysis, rng: random.Random
    ) -> None:
        from pipeline.engine.sizing import local_device
        from pipeline.engine.worker import FusedWorker

        self._ledger = ledger
        self._job = job
        self._frames = frames
        self._rng = rng
        device, threads = local_device(job.config), psutil.cpu_count() or 1
        # What is kept of a file may be what is wrong.
        self._worker = FusedWorker(job, device, threads, cached=False)
        self._report = DeepReport()

    def run(self, sample: int) -> DeepReport:
        chosen = self._choose(sample)
        if chosen:
            self._worker.setup()
        for video_id, frames in chosen.items():
            source = self._source(video_id)
            if source is not None:
                self._video(source, video_id, frames)
        return self._report

    # -- which frames -----------------------------------------------------------------

    def _choose(self, sample: int) -> dict[str, list[int]]:
        """Sampled frames at random, per video: shards by their number of frames, then a frame."""
        mine = pc.field("analysis") == self._frames.fingerprint
        columns = ["video_id", "first_frame", "last_frame", "frames"]
        name = self._frames.fingerprint
        shards = self._ledger.table("shards", columns, mine, analysis=name)
        current = set(self._ledger.videos().column("video_id").drop_null().to_pylist())
        sums = list(accumulate(shards.column("frames").to_pylist()))
        chosen: dict[str, set[int]] = {}
        if not sums or not sums[-1]:
            return {}
        for at in self._rng.choices(range(len(sums)), cum_weights=sums, k=sample):
            row = shards.slice(at, 1).to_pylist()[0]
            if row["video_id"] in current:
                frame = self._frame_of(row)
                chosen.setdefault(row["video_id"], set()).add(frame)
        return {video_id: sorted(frames) for video_id, frames in sorted(chosen.items())}

    def _frame_of(self, shard: dict[str, Any]) -> int:
        index = self._ledger.index(shard["video_id"])
        sampled = sampled_frames(index, self._frames.identity["sampling"])  # type: ignore[arg-type]
        lo = int(np.searchsorted(sampled, shard["first_frame"], "left"))
        hi = int(np.searchsorted(sampled, shard["last_frame"], "right"))
        return int(sampled[self._rng.randrange(lo, hi)])

    @cached_property
    def _videos(self) -> pa.Table:
        return self._ledger.videos()

    # -- one video --------------------------------------------------------------------

    def _source(self, video_id: str) -> Source | None:
        """A file that has the content now."""
        videos = self._videos
        rows = videos.filter(pc.equal(videos.column("video_id"), video_id)).to_pylist()
        places = [(row["uri"], row["stamp"]) for row in rows]
        try:
            return find_content(video_id, places, self._job.config.decode, "index")
        except VideoError as error:
            self._report.passed_over[rows[0]["uri"]] = error.reason
            return None

    def _video(self, source: Source, video_id: str, frames: list[int]) -> None:
        self._report.videos += 1
        try:
            index = self._worker.index(source)
        except VideoError as error:
            self._find("videos", video_id, f"{source.uri} cannot be read any more: {error.reason}")
            return
        if index.video_id != video_id:
            what = f"{source.uri} has other bytes, though its stamp is the same"
            self._find("videos", video_id, what)
            return
        for what in differences(self._ledger.index(video_id), index):
            self._find("indexes", video_id, f"{source.uri} indexed anew has other {what}")
        rows = self._rows("frames", video_id, frames, self._frames.fingerprint)
        due = tuple(a.fingerprint for a in self._job.analyses)
        for task in _tasks(source, index, frames, due):
            try:
                results = self._results(task)
            except VideoError as error:
                first = int(task.sampled[0])
                what = f"cannot be made again: {error.stage}: {error.reason}"
                self._find("frames", video_id, what, first)
                continue
            for frame, result in results.items():
                self._frame(video_id, index, frame, rows.get(frame, []), result)

    def _results(self, task: ShardTask) -> dict[int, ClipResult]:
        found = {}
        for parcel in self._worker.process(task, 1):
            for item in parcel:
                if isinstance(item, ClipResult):
                    found[int(task.sampled[item.clip.start - task.base])] = item
        return found

    def _rows(
        self, table: str, video_id: str, frames: list[int], fingerprint: str
    ) -> dict[int, list[dict[str, Any]]]:
        wanted = (pc.field("video_id") == video_id) & pc.field("frame_index").isin(
            pa.array(frames, pa.int64())
        )
        rows = self._ledger.table(table, filter=wanted, analysis=fingerprint, current=False)
        found: dict[int, list[dict[str, Any]]] = {}
        for row in rows.to_pylist():
            found.setdefault(row["frame_index"], []).append(row)
        return found

    # -- one frame --------------------------------------------------------------------

    def _frame(
        self,
        video_id: str,
        index: VideoIndex,
        frame: int,
        rows: list[dict[str, Any]],
        result: ClipResult,
    ) -> None:
        if not rows or rows[0]["status"] != "ok":
            return  # Not landed yet, or given up: `failures` says why.
        self._report.frames += 1
        row = rows[0]
        if row["pts"] != int(index.pts[frame]):
            what = f"pts {row['pts']}, made again {int(index.pts[frame])}"
            self._find("frames", video_id, what, frame)
        if not len(result.positions):
            self._find("frames", video_id, "is ok, but cannot be decoded any more", frame)
            return
        size = tuple(int(side) for side in result.sizes[0])
        if size != (row["width"], row["height"]):
            what = f"{row['width']}x{row['height']}, made again {size[0]}x{size[1]}"
            self._find("frames", video_id, what, frame)
        for analysis in self._job.analyses:
            if analysis.table != "frames" and self._landed(analysis, video_id, frame):
                self._analysis(analysis, video_id, frame, result)

    def _landed(self, analysis: Analysis, video_id: str, frame: int) -> bool:
        wanted = (pc.field("video_id") == video_id) & (pc.field("first_frame") <= frame)
        wanted &= pc.field("last_frame") >= frame
        name = analysis.fingerprint
        return self._ledger.table("shards", ["shard_id"], wanted, name, current=False).num_rows > 0

    def _analysis(self, analysis: Analysis, video_id: str, frame: int, result: ClipResult) -> None:
        there = self._rows(analysis.table, video_id, [frame], analysis.fingerprint).get(frame, [])
        again = result.rows[analysis.fingerprint].to_pylist()
        if analysis.table == "embeddings":
            self._report.embeddings += 1
            what = compare_embeddings(there, again)
        else:
            self._report.detections += 1
            what = compare_boxes(there, again, getattr(self._job.config.detector, "threshold", 0.0))
        if what:
            self._find(analysis.table, video_id, what, frame, analysis.fingerprint)

    def _find(
        self,
        table: str,
        video_id: str,
        what: str,
        frame: int | None = None,
        analysis: str | None = None,
    ) -> None:
        self._report.findings.append(Finding(table, video_id, what, frame, analysis=analysis))


def _tasks(
    source: Source, index: VideoIndex, frames: list[int], due: tuple[str, ...]
) -> Iterator[ShardTask]:
    """One frame a task, each sought for by itself; all in one where nothing can be sought for."""
    for part in [[frame] for frame in frames] if index.exact_pts else [frames]:
        clips = tuple(Clip(at, at, at + 1, at, at + 1) for at in range(len(part)))
        yield ShardTask(source, index, np.array(part, np.int64), 0, Shard(0, 1, clips), due)
