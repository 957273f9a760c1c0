"""A year of a schedule, day by day: the corpus changes, a run is due, what it did is checked.

Days go by in seconds. Files of the output are made a day older each night; what is kept for so
many days (`gc --keep`) is told in the seconds that these days have taken.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ledger.alive import FOLDER
from pipeline.ledger.gc import gc
from pipeline.ledger.reader import Ledger
from pipeline.ledger.runs import read_runs
from pipeline.ledger.scan import read_table
from pipeline.ledger.store import Store
from pipeline.ledger.verify import verify
from pipeline.runner import make_job
from tests.year.calendar import Day
from tests.year.corpus import MOST_FRAMES, Corpus
from tests.year.runs import Counts, Ended, Runs, hold, local
from tests.year.sizes import age, sizes
from tests.year.synthetic import install, worked
from tests.year.truth import Pair, Truth


class Simulation:
    """One output and what happens to it."""

    def __init__(self, folder: Path, seed: int, keep_days: int) -> None:
        self.corpus = Corpus(folder / "videos", random.Random(seed))
        self.output = folder / "out"
        self.truth = Truth()
        self.counts = Counts()
        self._keep_days = keep_days
        self._began: list[float] = []
        self._runs = Runs(folder, self.corpus, self.truth, self.counts)
        self._worked = {"detector": 0, "embedder": 0}
        """When the tables were last looked at."""
        install()

    def play(self, day: Day) -> None:
        """Raises Wrong."""
        self._began.append(time.time())
        self.corpus.begin(day.number)
        for change in day.changes:
            self.corpus.apply(change)
        contents = self.corpus.contents()
        self.truth.versions |= contents
        wanted = self._wanted(day)
        for name, fingerprint in wanted.items():
            self.truth.names[fingerprint], self.truth.strides[fingerprint] = name, day.stride
        due = self.truth.due(contents, wanted.values())
        self.truth.offered |= due
        ended = self._runs.play(day, due)
        self.truth.saw(day.number, self.corpus.now, wanted, day.stride, ended.whole)
        self._check_codes(ended)
        if ended.whole or not self._runs.kills:
            self._check_rows(ended, due)
        if day.gc:
            self._clean(day)
        if day.verify:
            self._verify(day)
        # That of a run that was killed stays until the next one begins.
        if day.how not in ("killed", "takeover"):
            hold(not (self.output / FOLDER).exists(), "a lease is left behind")
        age(self.output)

    # -- what is wanted ---------------------------------------------------------------

    def _wanted(self, day: Day) -> dict[str, str]:
        """Fingerprints by name."""
        with local(self._runs.models(day)):
            job = make_job(self._runs.settings(day), str(self.output))
        return {analysis.name: analysis.fingerprint for analysis in job.analyses}

    # -- checks -----------------------------------------------------------------------

    def _check_codes(self, ended: Ended) -> None:
        """3 while a file of the corpus is no video; a run that stops at its budget may not have
        come to it."""
        bad = any(not version.frames for version in self.corpus.now.values())
        fine = {3} if bad and ended.whole else {0, 3} if bad else {0}
        hold(set(ended.codes) <= fine, f"exit codes {ended.codes}, {fine} expected")

    def _check_rows(self, ended: Ended, due: set[Pair]) -> None:
        """Hold `shards` against what had to land, and the work that was done against that."""
        truth, now = self.truth, self._pairs()
        hold(not truth.landed - now, f"{len(truth.landed - now)} rows are gone")
        fresh = now - truth.landed
        hold(fresh <= truth.offered, f"{len(fresh - truth.offered)} that nobody wanted")
        if ended.whole:
            hold(due <= now, f"{len(due - now)} of {len(due)} have not landed")
            self._check_videos()
        # Leases are of files: the same bytes under two names may be worked by two runs at once.
        twins = self._twins(due) if ended.side_by_side else 0
        if not self._runs.kills:
            frames = truth.frames(fresh)
            fine = frames <= ended.frames <= frames + twins
            hold(fine, f"runs say {ended.frames} frames, {frames} are new, {twins=}")
        total = worked(self._runs.log)
        for name, before in self._worked.items():
            landed, done = truth.frames(fresh, name), total[name] - before
            lost = done - landed
            # A worker that is killed has one video in hand, and no video is larger.
            fine = 0 <= lost <= self._runs.kills * MOST_FRAMES + twins
            hold(fine, f"{name}: {done} frames worked for {landed}, {self._runs.kills=} {twins=}")
            self.counts.frames += done
            self.counts.lost += lost
        self.counts.pairs += len(fresh)
        self.counts.again += len(fresh & truth.ever)
        truth.landed, truth.offered, self._worked, self._runs.kills = now, set(), total, 0
        truth.ever |= now

    def _pairs(self) -> set[Pair]:
        store = Store(str(self.output))
        columns = ["video_id", "analysis", "shard_id", "shard_count", "frames"]
        rows = read_table(store.dataset("shards", store.open("shards")), columns).to_pylist()
        pairs = {(row["video_id"], row["analysis"]) for row in rows}
        hold(len(pairs) == len(rows), f"{len(rows) - len(pairs)} shards are there twice")
        for row in rows:
            version = self.truth.versions[row["video_id"]]
            frames = version.sampled(self.truth.strides[row["analysis"]])
            hold((row["shard_count"], row["frames"]) == (1, frames), f"{row} of {version}")
        return pairs

    def _twins(self, due: set[Pair]) -> int:
        """Sampled frames of contents that are due and that lie under more than one name."""
        names = Counter(version.video_id for version in self.corpus.now.values())
        return self.truth.frames(pair for pair in due if names[pair[0]] > 1)

    def _check_videos(self) -> None:
        found = {row["uri"]: row for row in Ledger(self.output).videos().to_pylist()}
        for path, version in self.corpus.now.items():
            row = found.get(path, {})
            seen = (row.get("status"), row.get("video_id"))
            told = ("ok", version.video_id) if version.frames else ("failed", None)
            hold(seen == told, f"{path}: {seen} instead of {told}")

    def _verify(self, day: Day) -> None:
        """Every row is of its frame: what is drawn in it is its index."""
        report = verify(str(self.output))
        hold(report.sound, "; ".join(map(str, report.findings[:3])))
        ledger = Ledger(self.output)
        rows = ledger.table("embeddings", ["frame_index", "embedding"], current=False)
        drawn = pc.list_element(rows.column("embedding"), 0).cast(pa.int64())
        hold(drawn.equals(rows.column("frame_index")), "embeddings of other frames")
        boxes = ledger.table("detections", ["frame_index", "x1"], current=False)
        drawn = boxes.column("x1").cast(pa.int64())
        hold(drawn.equals(boxes.column("frame_index")), "boxes of other frames")
        states = Counter(row["state"] for row in read_runs(str(self.output)))
        hold(not states["running"], f"runs: {dict(states)}")
        self.measure(day.number)

    def measure(self, day: int) -> None:
        videos = Ledger(self.output).videos().num_rows
        self.counts.sizes[day] = len(self.corpus.now), videos, sizes(self.output)

    # -- cleaning up ------------------------------------------------------------------

    def _clean(self, day: Day) -> None:
        cutoff = max(0, day.number - self._keep_days)
        keep_s = time.time() - self._began[cutoff]
        report = gc(str(self.output), grace_hours=0, superseded=True, keep_s=keep_s)
        truth, now = self.truth, self._pairs()
        gone = truth.landed - now
        for pair in gone:
            hold(truth.may_go(pair, cutoff), f"gc: {pair} went too early")
        self.counts.removed += len(gone)
        truth.landed = truth.landed - gone
        if self._runs.kills:
            # What was killed today may have left a journal, for which rows stay; what it has landed
            # is looked at with the next run.
            return
        hold(not report.notes, f"gc: {report.notes}")
        for pair in now:
            hold(not truth.must_go(pair, cutoff), f"gc: {pair} is there still")
        hold(now <= truth.landed, "gc has added rows")
