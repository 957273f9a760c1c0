"""Frames per second as ratios of what the same machine does without frameledger, in one run."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import frameledger, json_line, table
from benchmarks.videos import demo_720p, remuxed_copies

COPIES = 24
ROUNDS = 3


def throughput(work: Path, videos: Path | None) -> None:
    """Print the table. Every round runs every contestant once, so that noise meets all alike."""
    real = [videos / name for name in ("01_dog.mp4", "05_default_juggle.mp4")] if videos else []
    sources = [path for path in real if path.exists()] or [demo_720p(work / "demo.mp4", 10)]
    corpus = [str(p) for p in remuxed_copies(sources, work / "corpus", COPIES)]
    peer = peer_python(work / "peer-env")
    rounds: list[dict[str, float]] = []
    details: dict[str, Any] = {}
    for _ in range(ROUNDS):
        rounds.append(_one_round(work, corpus, peer, details))
    cores = len(os.sched_getaffinity(0))
    rows = []
    for name in rounds[0]:
        rate = statistics.median(one[name] for one in rounds)
        share = statistics.median(one[name] / (cores * one["decode"]) for one in rounds)
        times = statistics.median(one["auto"] / one[name] for one in rounds)
        rows.append((NAMES[name], f"{rate:,.0f}", f"{share:.2f}", f"{times:.2f}"))
    title = f"Throughput: probe, stride 1, 720p H.264, {len(corpus)} videos, {cores} cores"
    header = ("", "frames/s", "share of cores x pure decode", "frameledger is faster by")
    table(title + f", median of {ROUNDS} rounds", header, rows)
    for name, one in details.items():
        shares = ", ".join(f"{key} {value:.0%}" for key, value in one["shares"].items())
        print(f"\n{name}: start-up {one['startup_s']:.1f} s; {shares}; limit: {one['limit']}")


NAMES = {
    "decode": "pure PyAV decode, one thread",
    "auto": "frameledger run, placement auto",
    "split": "frameledger run, placement split",
    "fused": "frameledger run, placement fused",
    "opencv": "OpenCV read and Parquet loop",
    "ray_data": "ray.data.read_videos, map_batches, write_parquet",
}


def _one_round(
    work: Path, corpus: list[str], peer: str | None, details: dict[str, Any]
) -> dict[str, float]:
    loops = [sys.executable, "-m", "benchmarks.loops"]
    rates = {"decode": _rate(json_line([*loops, "decode", *corpus]))}
    for placement in ("auto", "split", "fused"):
        output = work / f"out-{placement}"
        shutil.rmtree(output, ignore_errors=True)
        figures, _ = frameledger(
            "configs/probe.yaml",
            *corpus,
            *("--output", str(output), "--set", f"engine.placement={placement}"),
        )
        rates[placement] = figures["frames_per_s"]
        details[placement] = figures
    rates["opencv"] = _rate(json_line([*loops, "opencv", str(work / "opencv.parquet"), *corpus]))
    if peer is not None:
        target = work / "peer.parquet"
        shutil.rmtree(target, ignore_errors=True)
        script = str(Path(__file__).with_name("ray_data_peer.py"))
        # A tenth of the corpus: it is slow, and its rate does not depend on the number of files.
        some = corpus[: max(2, len(corpus) // 8)]
        rates["ray_data"] = _rate(json_line([peer, script, str(target), *some]))
    return rates


def _rate(figures: dict[str, Any]) -> float:
    return float(figures["frames"]) / float(figures["seconds"])


def peer_python(folder: Path) -> str | None:
    """An environment with Ray Data and its video reader; None, with the reason, without one."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        wanted = ["ray[data]", "decord", "numpy", "opencv-python"]
        done = subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", *wanted],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            print(f"Ray Data is left out: {done.stderr.strip().splitlines()[-1]}")
            shutil.rmtree(folder)
            return None
    return str(python)
