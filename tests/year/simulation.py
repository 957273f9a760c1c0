"""A year of a schedule, day by day: the corpus changes, a run is due, what it did is checked.

Days go by in seconds. Files of the output are made a day older each night; what is kept for so
many days (`gc --keep`) is told in the seconds that these days have taken.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import Config
from pipeline.config_file import load_config
from pipeline.ledger.alive import FOLDER, live_runs
from pipeline.ledger.gc import gc
from pipeline.ledger.reader import Ledger
from pipeline.ledger.runs import read_runs
from pipeline.ledger.scan import read_table
from pipeline.ledger.store import Store
from pipeline.ledger.verify import verify
from pipeline.runner import make_job, run
from pipeline.summary import RunSummary
from tests.year.calendar import Day
from tests.year.corpus import MOST_FRAMES, Corpus
from tests.year.processes import Process, start
from tests.year.sizes import Sizes, age, sizes
from tests.year.synthetic import MODELS, Models, install, worked
from tests.year.truth import Pair, Truth

CLIP = 8
CONFIG = f"embedder: {{backend: probe}}\nclip: {{length: {CLIP}}}\n"
CALL_S = 0.01
"""What a model takes for a clip where a run is to last long enough to be disturbed."""


@dataclass
class Counts:
    """What a year came to."""

    runs: Counter[str] = field(default_factory=Counter)
    """By what happened to them."""
    pairs: int = 0
    """Contents worked, once for each analysis."""
    again: int = 0
    """Of those: worked before, and removed by gc since."""
    removed: int = 0
    frames: int = 0
    """Frames that the analyzers looked at, ..."""
    lost: int = 0
    """... of which so many came to nothing, in the hands of runs that were killed."""
    sizes: dict[int, tuple[int, int, Sizes]] = field(default_factory=dict)
    """By day: files of the corpus, videos in the tables, sizes."""


class Wrong(AssertionError):
    """The tables are not what they have to be."""


@dataclass
class Ended:
    """A day's runs."""

    frames: int
    """That they say they have landed."""
    codes: list[int]
    whole: bool = True
    """All that was due is done."""
    side_by_side: bool = False
    """Two runs were at work at once."""


class Simulation:
    """One output and what happens to it."""

    def __init__(self, folder: Path, seed: int, keep_days: int) -> None:
        self.corpus = Corpus(folder / "videos", random.Random(seed))
        self.output = folder / "out"
        self.truth = Truth()
        self.counts = Counts()
        self._folder = folder
        self._config = folder / "config.yaml"
        self._config.write_text(CONFIG)
        self._log = folder / "worked.log"
        self._keep_days = keep_days
        self._began: list[float] = []
        self._kills = 0
        """Since the tables were last looked at."""
        self._worked = {"detector": 0, "embedder": 0}
        """At that time."""
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
        how: dict[str, Callable[[Day, set[Pair]], Ended]] = {
            "plain": self._plain,
            "ray": self._plain,
            "budget": self._budget,
            "killed": self._killed,
            "share": self._share,
            "leave": self._leave,
            "takeover": self._takeover,
        }
        ended = how[day.how](day, due)
        self.truth.saw(day.number, self.corpus.now, wanted, day.stride, ended.whole)
        self._check_codes(ended)
        if ended.whole or not self._kills:
            self._check_rows(ended, due)
        if day.gc:
            self._clean(day)
        if day.verify:
            self._verify(day)
        # That of a run that was killed stays until the next one begins.
        if day.how not in ("killed", "takeover"):
            _hold(not (self.output / FOLDER).exists(), "a lease is left behind")
        age(self.output)

    # -- runs -------------------------------------------------------------------------

    def _plain(self, day: Day, due: set[Pair], budget: int | None = None) -> Ended:
        self.counts.runs[day.how] += 1
        with _ray(self._models(day)) if day.how == "ray" else _local(self._models(day)):
            summary: RunSummary = run(
                self._settings(day),
                [str(self.corpus.folder)],
                self.output,
                engine="ray" if day.how == "ray" else "local",
                priority=day.priority,  # type: ignore[arg-type]
                budget_frames=budget,
            )
        return Ended(summary.frames, [summary.exit_code], not summary.left)

    def _budget(self, day: Day, due: set[Pair]) -> Ended:
        all_of_it = self.truth.frames(due)
        budget = max(1, int(all_of_it * day.share))
        ended = self._plain(day, due, budget)
        if not self._kills:
            least = min(budget, all_of_it)
            _hold(least <= ended.frames < budget + MOST_FRAMES, f"{budget=}: {ended.frames} frames")
        return ended

    def _killed(self, day: Day, due: set[Pair]) -> Ended:
        process = self._start(day, "one", due)
        killed = process.kill_when(self._when(day, due))
        self.counts.runs["killed" if killed else "killed too late"] += 1
        if not killed:
            told = json.loads((process.report / "run.json").read_text())
            return Ended(told["frames"], [process.popen.returncode])
        self._kills += 1
        return Ended(0, [], whole=False)

    def _share(self, day: Day, due: set[Pair]) -> Ended:
        self.counts.runs["share"] += 2
        both = [self._start(day, name, due) for name in ("one", "two")]
        told = [process.ended() for process in both]
        frames = sum(record["frames"] for *_, record in told)
        return Ended(frames, [code for code, *_ in told], side_by_side=True)

    def _leave(self, day: Day, due: set[Pair]) -> Ended:
        self.counts.runs["leave"] += 2
        first = self._start(day, "one", due)
        while first.popen.poll() is None and not live_runs(str(self.output)):
            time.sleep(0.003)
        second = self._start(day, "two", due, "--overlap", "leave")
        code, said, record = second.ended()
        if first.popen.poll() is None:
            _hold("left to run" in said and not record["frames"] and not code, said)
            self.counts.runs["left to another"] += 1
        ended, _, told = first.ended()
        return Ended(record["frames"] + told["frames"], [ended] if not code else [ended, code])

    def _takeover(self, day: Day, due: set[Pair]) -> Ended:
        self.counts.runs["takeover"] += 2
        both = [self._start(day, name, due) for name in ("one", "two")]
        killed = both[0].kill_when(self._when(day, due))
        self._kills += killed
        code, _, record = both[1].ended()
        return Ended(record["frames"], [code], side_by_side=True)

    def _start(self, day: Day, name: str, due: set[Pair], *options: str) -> Process:
        models = self._models(day, CALL_S if due else 0.0)
        often = "0.05" if day.share < 0.5 else "30"
        sets = [f"sampling.stride={day.stride}", f"commit.seconds={often}"]
        arguments = [str(self._config), str(self.corpus.folder), "-o", str(self.output)]
        arguments += [word for one in sets for word in ("--set", one)]
        arguments += ["--priority", day.priority, *options]
        return start(models, arguments, self._folder / f"report-{name}")

    def _when(self, day: Day, due: set[Pair]) -> Callable[[], bool]:
        """Once so much of the day's work is done."""
        before = sum(worked(self._log).values())
        names = ("detector", "embedder")
        enough = before + day.share * sum(self.truth.frames(due, name) for name in names)
        started = time.monotonic()
        if due:
            return lambda: sum(worked(self._log).values()) >= max(enough, before + 1)
        return lambda: time.monotonic() - started > day.share * 2

    # -- what is wanted ---------------------------------------------------------------

    def _models(self, day: Day, pace_s: float = 0.0) -> Models:
        return Models(day.detector, day.embedder, str(self._log), pace_s)

    def _settings(self, day: Day) -> Config:
        return load_config(self._config, (f"sampling.stride={day.stride}",))

    def _wanted(self, day: Day) -> dict[str, str]:
        """Fingerprints by name."""
        with _local(self._models(day)):
            job = make_job(self._settings(day), str(self.output))
        return {analysis.name: analysis.fingerprint for analysis in job.analyses}

    # -- checks -----------------------------------------------------------------------

    def _check_codes(self, ended: Ended) -> None:
        """3 while a file of the corpus is no video; a run that stops at its budget may not have
        come to it."""
        bad = any(not version.frames for version in self.corpus.now.values())
        fine = {3} if bad and ended.whole else {0, 3} if bad else {0}
        _hold(set(ended.codes) <= fine, f"exit codes {ended.codes}, {fine} expected")

    def _check_rows(self, ended: Ended, due: set[Pair]) -> None:
        """Hold `shards` against what had to land, and the work that was done against that."""
        truth, now = self.truth, self._pairs()
        _hold(not truth.landed - now, f"{len(truth.landed - now)} rows are gone")
        fresh = now - truth.landed
        _hold(fresh <= truth.offered, f"{len(fresh - truth.offered)} that nobody wanted")
        if ended.whole:
            _hold(due <= now, f"{len(due - now)} of {len(due)} have not landed")
            self._check_videos()
        # Leases are of files: the same bytes under two names may be worked by two runs at once.
        twins = self._twins(due) if ended.side_by_side else 0
        if not self._kills:
            frames = truth.frames(fresh)
            fine = frames <= ended.frames <= frames + twins
            _hold(fine, f"runs say {ended.frames} frames, {frames} are new, {twins=}")
        total = worked(self._log)
        for name, before in self._worked.items():
            landed, done = truth.frames(fresh, name), total[name] - before
            lost = done - landed
            # A worker that is killed has one video in hand, and no video is larger.
            fine = 0 <= lost <= self._kills * MOST_FRAMES + twins
            _hold(fine, f"{name}: {done} frames worked for {landed}, {self._kills=} {twins=}")
            self.counts.frames += done
            self.counts.lost += lost
        self.counts.pairs += len(fresh)
        self.counts.again += len(fresh & truth.ever)
        truth.landed, truth.offered, self._worked, self._kills = now, set(), total, 0
        truth.ever |= now

    def _pairs(self) -> set[Pair]:
        store = Store(str(self.output))
        columns = ["video_id", "analysis", "shard_id", "shard_count", "frames"]
        rows = read_table(store.dataset("shards", store.open("shards")), columns).to_pylist()
        pairs = {(row["video_id"], row["analysis"]) for row in rows}
        _hold(len(pairs) == len(rows), f"{len(rows) - len(pairs)} shards are there twice")
        for row in rows:
            version = self.truth.versions[row["video_id"]]
            frames = version.sampled(self.truth.strides[row["analysis"]])
            _hold((row["shard_count"], row["frames"]) == (1, frames), f"{row} of {version}")
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
            _hold(seen == told, f"{path}: {seen} instead of {told}")

    def _verify(self, day: Day) -> None:
        """Every row is of its frame: what is drawn in it is its index."""
        report = verify(str(self.output))
        _hold(report.sound, "; ".join(map(str, report.findings[:3])))
        ledger = Ledger(self.output)
        rows = ledger.table("embeddings", ["frame_index", "embedding"], current=False)
        drawn = pc.list_element(rows.column("embedding"), 0).cast(pa.int64())
        _hold(drawn.equals(rows.column("frame_index")), "embeddings of other frames")
        boxes = ledger.table("detections", ["frame_index", "x1"], current=False)
        drawn = boxes.column("x1").cast(pa.int64())
        _hold(drawn.equals(boxes.column("frame_index")), "boxes of other frames")
        states = Counter(row["state"] for row in read_runs(str(self.output)))
        _hold(not states["running"], f"runs: {dict(states)}")
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
            _hold(truth.may_go(pair, cutoff), f"gc: {pair} went too early")
        self.counts.removed += len(gone)
        truth.landed = truth.landed - gone
        if self._kills:
            # What was killed today may have left a journal, for which rows stay; what it has landed
            # is looked at with the next run.
            return
        _hold(not report.notes, f"gc: {report.notes}")
        for pair in now:
            _hold(not truth.must_go(pair, cutoff), f"gc: {pair} is there still")
        _hold(now <= truth.landed, "gc has added rows")


def _hold(right: bool, what: str) -> None:
    if not right:
        raise Wrong(what)


@contextmanager
def _local(models: Models):  # type: ignore[no-untyped-def]
    os.environ[MODELS] = str(models)
    yield
    del os.environ[MODELS]


@contextmanager
def _ray(models: Models):  # type: ignore[no-untyped-def]
    """A small Ray whose processes work with these analyzers."""
    import ray

    environment = {"env_vars": {MODELS: str(models)}}
    with _local(models):
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=150 * 2**20,
            runtime_env={**environment, "worker_process_setup_hook": install},
        )
        try:
            yield
        finally:
            ray.shutdown()
