"""A day's runs on the output: alone, cut short, killed, or side by side with another."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.config import Config
from pipeline.config_file import load_config
from pipeline.ledger.alive import live_runs
from pipeline.runner import run
from pipeline.summary import RunSummary
from tests.year.calendar import Day
from tests.year.corpus import MOST_FRAMES, Corpus
from tests.year.processes import Process, start
from tests.year.sizes import Sizes
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


class Runs:
    """All runs on one output."""

    def __init__(self, folder: Path, corpus: Corpus, truth: Truth, counts: Counts) -> None:
        self.log = folder / "worked.log"
        self.kills = 0
        """Since the tables were last looked at."""
        self._folder = folder
        self._output = folder / "out"
        self._config = folder / "config.yaml"
        self._config.write_text(CONFIG)
        self._corpus, self._truth, self._counts = corpus, truth, counts

    def play(self, day: Day, due: set[Pair]) -> Ended:
        how: dict[str, Callable[[Day, set[Pair]], Ended]] = {
            "plain": self._plain,
            "ray": self._plain,
            "budget": self._budget,
            "killed": self._killed,
            "share": self._share,
            "leave": self._leave,
            "takeover": self._takeover,
        }
        return how[day.how](day, due)

    def models(self, day: Day, pace_s: float = 0.0) -> Models:
        return Models(day.detector, day.embedder, str(self.log), pace_s)

    def settings(self, day: Day) -> Config:
        return load_config(self._config, (f"sampling.stride={day.stride}",))

    def _plain(self, day: Day, due: set[Pair], budget: int | None = None) -> Ended:
        self._counts.runs[day.how] += 1
        with _ray(self.models(day)) if day.how == "ray" else local(self.models(day)):
            summary: RunSummary = run(
                self.settings(day),
                [str(self._corpus.folder)],
                self._output,
                engine="ray" if day.how == "ray" else "local",
                priority=day.priority,  # type: ignore[arg-type]
                budget_frames=budget,
            )
        return Ended(summary.frames, [summary.exit_code], not summary.left)

    def _budget(self, day: Day, due: set[Pair]) -> Ended:
        all_of_it = self._truth.frames(due)
        budget = max(1, int(all_of_it * day.share))
        ended = self._plain(day, due, budget)
        if not self.kills:
            least = min(budget, all_of_it)
            hold(least <= ended.frames < budget + MOST_FRAMES, f"{budget=}: {ended.frames} frames")
        return ended

    def _killed(self, day: Day, due: set[Pair]) -> Ended:
        process = self._start(day, "one", due)
        killed = process.kill_when(self._when(day, due))
        self._counts.runs["killed" if killed else "killed too late"] += 1
        if not killed:
            told = json.loads((process.report / "run.json").read_text())
            return Ended(told["frames"], [process.popen.returncode])
        self.kills += 1
        return Ended(0, [], whole=False)

    def _share(self, day: Day, due: set[Pair]) -> Ended:
        self._counts.runs["share"] += 2
        both = [self._start(day, name, due) for name in ("one", "two")]
        told = [process.ended() for process in both]
        frames = sum(record["frames"] for *_, record in told)
        return Ended(frames, [code for code, *_ in told], side_by_side=True)

    def _leave(self, day: Day, due: set[Pair]) -> Ended:
        self._counts.runs["leave"] += 2
        first = self._start(day, "one", due)
        while first.popen.poll() is None and not live_runs(str(self._output)):
            time.sleep(0.003)
        second = self._start(day, "two", due, "--overlap", "leave")
        code, said, record = second.ended()
        if first.popen.poll() is None:
            hold("left to run" in said and not record["frames"] and not code, said)
            self._counts.runs["left to another"] += 1
        ended, _, told = first.ended()
        return Ended(record["frames"] + told["frames"], [ended] if not code else [ended, code])

    def _takeover(self, day: Day, due: set[Pair]) -> Ended:
        self._counts.runs["takeover"] += 2
        both = [self._start(day, name, due) for name in ("one", "two")]
        killed = both[0].kill_when(self._when(day, due))
        self.kills += killed
        code, _, record = both[1].ended()
        return Ended(record["frames"], [code], side_by_side=True)

    def _start(self, day: Day, name: str, due: set[Pair], *options: str) -> Process:
        models = self.models(day, CALL_S if due else 0.0)
        often = "0.05" if day.share < 0.5 else "30"
        sets = [f"sampling.stride={day.stride}", f"commit.seconds={often}"]
        arguments = [str(self._config), str(self._corpus.folder), "-o", str(self._output)]
        arguments += [word for one in sets for word in ("--set", one)]
        arguments += ["--priority", day.priority, *options]
        return start(models, arguments, self._folder / f"report-{name}")

    def _when(self, day: Day, due: set[Pair]) -> Callable[[], bool]:
        """Once so much of the day's work is done."""
        before = sum(worked(self.log).values())
        names = ("detector", "embedder")
        enough = before + day.share * sum(self._truth.frames(due, name) for name in names)
        started = time.monotonic()
        if due:
            return lambda: sum(worked(self.log).values()) >= max(enough, before + 1)
        return lambda: time.monotonic() - started > day.share * 2


def hold(right: bool, what: str) -> None:
    if not right:
        raise Wrong(what)


@contextmanager
def local(models: Models):  # type: ignore[no-untyped-def]
    os.environ[MODELS] = str(models)
    yield
    del os.environ[MODELS]


@contextmanager
def _ray(models: Models):  # type: ignore[no-untyped-def]
    """A small Ray whose processes work with these analyzers."""
    import ray

    environment = {"env_vars": {MODELS: str(models)}}
    with local(models):
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
