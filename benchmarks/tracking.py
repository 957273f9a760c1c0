"""Light tracking: what it adds to a run of the shipped detector on CPU."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.measure import frameledger, table
from benchmarks.videos import demo_720p

SECONDS = 60
ROUNDS = 2
BACKENDS = ("bytetrack", "ocsort")


def tracking(work: Path, videos: Path | None) -> None:
    """Print the table, by the round of each in which tracking took the smallest share."""
    video = demo_720p(work / "tracking-demo.mp4", SECONDS)
    output = work / "tracking-out"
    config = work / "tracking.yaml"
    detector = "{backend: transformers, model: builtin:detector}"
    rows = []
    for backend in BACKENDS:
        config.write_text(f"detector: {detector}\ntracker: {{backend: {backend}}}\n")
        rounds = []
        for _ in range(ROUNDS):
            shutil.rmtree(output, ignore_errors=True)
            arguments = (str(config), str(video), "--output", str(output), "--engine", "local")
            rounds.append(frameledger(*arguments)[0])
        best = min(rounds, key=lambda found: found["track_s"] / found["steady_s"])
        spent = best["track_s"] / best["frames"] * 1e3
        detection = best["steady_s"] / best["frames"] * 1e3
        share = f"{spent / detection:.1%}"
        rows.append((backend, f"{detection:.2f} ms", f"{spent:.2f} ms", share))
    header = ("tracker", "decoding and detection of a frame", "tracks of a frame", "share")
    table("Light tracking: 720p, the demo's detector, one process", header, rows)
