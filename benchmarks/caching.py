"""The frame cache: another embedder over the same 720p videos, decoded again or not."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import frameledger, table
from benchmarks.videos import demo_720p, remuxed_copies

COPIES = 4
ROUNDS = 1
HEIGHT = 256
EMBEDDERS = {
    "probe": ("embedder.backend=probe",),
    "builtin:clip": ("embedder.backend=clip", "embedder.model=builtin:clip"),
}
KINDS = ("no cache", "cache, filled by this run", "cache, filled for the other embedder")


def caching(work: Path, videos: Path | None) -> None:
    """Print the table."""
    names = ("01_dog.mp4", "05_default_juggle.mp4")
    sources = [videos / name for name in names] if videos is not None else []
    if not sources or not all(path.exists() for path in sources):
        sources = [demo_720p(work / "caching-demo.mp4", 20)]
    corpus = work / "caching-videos"
    remuxed_copies(sources, corpus, COPIES)
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for _ in range(ROUNDS):
        _round(work, corpus, found)
    rows = []
    for name in EMBEDDERS:
        plain = _rate(found[name, KINDS[0]])
        for kind in KINDS:
            figures = found[name, kind]
            pixels = median(one["decode_s"] / one["frames"] for one in figures) * 1e3
            there = f"{figures[0]['cached_frames']:,} of {figures[0]['frames']:,}"
            rate = _rate(figures)
            rows.append(
                (name, kind, there, f"{pixels:.2f} ms", f"{rate:,.0f}", f"{rate / plain:.1f}")
            )
    header = ("embedder", "run", "frames there", "pixels of a frame", "frames/s", "times no cache")
    table(f"Frame cache: 720p, {HEIGHT} px kept, one process", header, rows)


def _rate(figures: list[dict[str, Any]]) -> float:
    return median(one["frames_per_s"] for one in figures)


def _round(work: Path, corpus: Path, found: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
    """Each embedder in each way, over outputs that have the videos' indexes."""
    kept, output, config = work / "caching-kept", work / "caching-out", work / "caching.yaml"
    config.write_text("{}\n")
    cache = (f"cache.height={HEIGHT}", f"cache.folder={kept}")
    for first, other in (tuple(EMBEDDERS), tuple(EMBEDDERS)[::-1]):
        for folder in (kept, output):
            shutil.rmtree(folder, ignore_errors=True)

        def one(*settings: str) -> dict[str, Any]:
            chosen = [part for setting in settings for part in ("--set", setting)]
            names = (str(config), str(corpus), "--output", str(output), "--engine", "local")
            return frameledger(*names, *chosen)[0]

        one("sampling.keyframes=true")
        found[first, KINDS[0]].append(one(*EMBEDDERS[first]))
        found[first, KINDS[1]].append(one(*EMBEDDERS[first], *cache))
        found[other, KINDS[2]].append(one(*EMBEDDERS[other], *cache))
