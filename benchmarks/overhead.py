"""What this tree costs a frame beside another commit of it: CPU time, in one and the same run.

Machines are noisy by more than what is to be seen. So both commits work the same corpus at the
same time, each pair on one core that both share: what slows one slows the other. Compared is what a
throughput comes to where a core is the limit: CPU seconds of the whole process tree, Ray's own
processes among them, from the end of the start-up on.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import table
from benchmarks.videos import demo_720p, remuxed_copies

SPINE = "797b70c33c072eb41864936c301089a6c0acc229"
"""The last commit before supervision, leases and limits on what is decoded came."""
COPIES = 24
ROUNDS = 4
EVERY_S = 0.5
"""Processes that end take with them what they have used since they were last looked at."""


@dataclass(frozen=True)
class Used:
    """Of one run."""

    frames: int
    cpu_s: float
    """Of its whole process tree since the start-up."""


def overhead(work: Path, videos: Path | None, against: str = SPINE) -> None:
    """Print the table: this checkout's last commit and `against`."""
    trees = {
        "here": unpacked("HEAD", work / "overhead-here"),
        "there": unpacked(against, work / "overhead-there"),
    }
    real = [videos / name for name in ("01_dog.mp4", "05_default_juggle.mp4")] if videos else []
    sources = [path for path in real if path.exists()] or [demo_720p(work / "demo.mp4", 10)]
    remuxed_copies(sources, work / "overhead-corpus", COPIES)
    corpus = (work / "overhead-corpus").resolve()
    cores = sorted(os.sched_getaffinity(0))[:2]
    rows, ratios = [], []
    for turn in range(ROUNDS):
        # Who is started first comes out slower, by 1 to 3 % where each has a core of its own.
        order = list(trees) if turn % 2 == 0 else list(trees)[::-1]
        jobs = [(name, core) for core in cores for name in order]
        with ThreadPoolExecutor(len(jobs)) as pool:
            runs = pool.map(lambda job: _run(corpus, trees[job[0]], job[1]), jobs)
            found = dict(zip(jobs, runs, strict=True))
        for core in cores:
            here, there = (found[name, core] for name in trees)
            if here.frames != there.frames:
                raise RuntimeError(f"{here.frames} frames here, {there.frames} in {against}")
            ratios.append(here.cpu_s / there.cpu_s)
            spent = (f"{used.cpu_s / used.frames * 1e3:.3f} ms" for used in (here, there))
            rows.append((f"{turn + 1}", f"{core}", *spent, f"{ratios[-1] - 1:+.1%}"))
    error = statistics.stdev(ratios) / len(ratios) ** 0.5
    title = f"CPU time of a frame, here and in {against[:7]}: probe, {len(sources) * COPIES} videos"
    table(title, ("round", "core", "here", "there", "more here"), rows)
    mean = statistics.geometric_mean(ratios) - 1
    print(f"\n{mean:+.1%} in the mean, standard error {error:.1%}")


def unpacked(rev: str, folder: Path) -> Path:
    """The package and its configurations as they are in a commit, and nothing else in `folder`."""
    command = ["git", "archive", "--format=tar", rev, "pipeline", "configs"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        what = done.stderr.decode().strip()
        sys.exit(f"overhead: cannot read commit {rev} ({what}); a shallow clone lacks old ones")
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder.resolve()


def _run(corpus: Path, tree: Path, core: int) -> Used:
    """`frameledger run` of a tree with one worker, pinned to a core with all that it starts."""
    import psutil

    with tempfile.TemporaryDirectory() as folder:
        figures, output, log = (Path(folder) / name for name in ("figures.json", "tables", "log"))
        command = [sys.executable, "-m", "pipeline", "run", "configs/probe.yaml", str(corpus)]
        command += ["--output", str(output), "--engine", "ray", "--set", "engine.workers=1"]
        command += ["--json", str(figures)]
        began = time.monotonic()
        with log.open("w") as errors:
            process = subprocess.Popen(
                command,
                cwd=tree,
                env={**os.environ, "PYTHONPATH": str(tree)},
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
            # Whatever it starts stays there, too.
            psutil.Process(process.pid).cpu_affinity([core])
            samples = sampled(process)
        took = time.monotonic() - began
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)}: {log.read_text()[-2000:]}")
        found = json.loads(figures.read_text())
        # What the command has taken before it looks at its clock is taken for part of the start.
        working = took - found["total_s"] + found["startup_s"]
        return Used(found["frames"], sum(since(each, working) for each in samples.values()))


Samples = list[tuple[float, float]]
"""Of a process: seconds since the first look at it or its parents, and CPU seconds so far."""


def since(samples: Samples, start_s: float) -> float:
    """CPU seconds of one process from a moment on; one that came later counts from its start."""
    before = max((cpu_s for at, cpu_s in samples if at <= start_s), default=0.0)
    return samples[-1][1] - before


def sampled(process: subprocess.Popen[bytes]) -> dict[int, Samples]:
    """Of a process and all below it, by pid, until it ends."""
    import psutil

    began = time.monotonic()
    found: dict[int, Samples] = {}
    root = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            tree = [root, *root.children(recursive=True)]
        except psutil.Error:
            continue  # It has just ended.
        for one in tree:
            try:
                times = one.cpu_times()
            except psutil.Error:
                continue  # It ended between being listed and being asked.
            spent = times.user + times.system
            found.setdefault(one.pid, []).append((time.monotonic() - began, spent))
        time.sleep(EVERY_S)
    return found
