"""The books of a million videos: what planning, a run without work, status and lookups cost.

books_rows      the rows of a synthetic corpus
books_making    its files and tables
measure         each command in a fresh process: seconds and peak memory
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.books_making import CONFIG, SETTING, make
from benchmarks.books_rows import name_of
from benchmarks.measure import table

VIDEOS = 1_000_000
ROUNDS = 3


def books(work: Path, _videos: Path | None, count: int = VIDEOS) -> None:
    """Print the tables; what was made stays for the next time.

    Args:
        work: where everything is made.
        count: videos of the corpus.
    """
    root = (work / f"books-{count}").resolve()
    if not (root / "made").exists():
        make(root, count)
    for name in ("compacted", "never-compacted"):
        output = root / name
        costs = measure(output, root / "videos", count)
        rows = [
            (what, f"{cost.seconds:.2f}", f"{cost.cpu_s:.2f}", f"{cost.peak_bytes / 2**20:,.0f}")
            for what, cost in costs.items()
        ]
        files, size = held(output)
        title = f"Books of {count:,} videos, {name}: {files:,} files, {size / 1e9:.1f} GB"
        table(title, ("what", "s", "CPU s", "peak MiB"), rows)


@dataclass(frozen=True)
class Cost:
    """What a process took."""

    seconds: float
    cpu_s: float
    """User and system time of all its threads: what other work on the machine changes less."""
    peak_bytes: int
    stdout: str


_WATCHED = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
seconds, cpu = time.perf_counter() - started, used.ru_utime + used.ru_stime
print(json.dumps([done.returncode, seconds, cpu, used.ru_maxrss * 1024, done.stdout]))
"""
"""Started by a small process: Linux counts into a child's peak what its parent held at the fork."""


def timed(command: list[str]) -> Cost:
    """Run a command in a process of its own. Raises RuntimeError where it fails."""
    watch = [sys.executable, "-c", _WATCHED, *command]
    found = subprocess.run(watch, stdout=subprocess.PIPE, text=True, check=True)
    code, *cost = json.loads(found.stdout)
    if code:
        raise RuntimeError(f"{' '.join(command)}: exit {code}")
    return Cost(*cost)


_LOOKUP = """
import json, resource, sys, time
import deltalake, pyarrow.dataset, pyarrow.parquet  # whose loading is no part of a lookup
from pipeline.ledger.reader import Ledger
output, one, other, kind = sys.argv[1:]
def look(ledger, uri):
    started, used = time.perf_counter(), time.process_time()
    ledger().frame(uri, 0) if kind == "frame" else ledger().index(uri)
    return time.perf_counter() - started, time.process_time() - used
ledger = Ledger(output)
print(json.dumps([look(lambda: Ledger(output), one), min(
    look(lambda: ledger, uri) for uri in (one, other, one, other)
)]))
"""


def measure(output: Path, corpus: Path, videos: int) -> dict[str, Cost]:
    """The least seconds of some rounds, and the largest peak."""
    program = [sys.executable, "-m", "pipeline"]
    given = [CONFIG, str(corpus), "--output", str(output), "--set", SETTING]
    found: dict[str, Cost] = {}
    commands = {
        "frameledger plan, nothing to do": [*program, "plan", *given],
        "frameledger run, nothing to do": [*program, "run", *given],
        "frameledger status": [*program, "status", str(output)],
    }
    for name, command in commands.items():
        costs = [timed(command) for _ in range(ROUNDS)]
        assert f"{videos:,}" in costs[0].stdout, costs[0].stdout
        found[name] = _best(costs)
    one, other = name_of(corpus, videos // 3), name_of(corpus, videos // 2)
    for kind in ("frame", "index"):
        command = [sys.executable, "-c", _LOOKUP, str(output), one, other, kind]
        whole = [timed(command) for _ in range(ROUNDS)]
        both = [json.loads(cost.stdout) for cost in whole]
        for place, name in enumerate(("in a new process", "again")):
            costs = [
                Cost(*each[place], cost.peak_bytes, "")
                for each, cost in zip(both, whole, strict=True)
            ]
            found[f"Ledger.{kind}, {name}"] = _best(costs)
    return found


def _best(costs: list[Cost]) -> Cost:
    seconds, cpu_s = (min(getattr(c, name) for c in costs) for name in ("seconds", "cpu_s"))
    return Cost(seconds, cpu_s, max(cost.peak_bytes for cost in costs), "")


def held(output: Path) -> tuple[int, int]:
    """(files of the tables as they are now, their bytes)."""
    from pipeline.ledger.status import status

    found = status(str(output))
    return found.files, found.size_bytes
