"""The frame cache: another embedder over the same 720p videos, decoded again or not."""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import frameledger, table
from benchmarks.videos import demo_720p, remuxed_copies

COPIES = 6
ROUNDS = 3
HEIGHT = 256
EMBEDDERS = {
    "probe": ("embedder.backend=probe",),
    "builtin:clip": ("embedder.backend=clip", "embedder.model=builtin:clip"),
}


def caching(work: Path, videos: Path | None) -> None:
    """Print the table."""
    names = ("01_dog.mp4", "05_default_juggle.mp4")
    sources = [videos / name for name in names] if videos is not None else []
    if not sources or not all(path.exists() for path in sources):
        sources = [demo_720p(work / "caching-demo.mp4", 20)]
    corpus = work / "caching-videos"
    remuxed_copies(sources, corpus, COPIES)
    empty = work / "caching.yaml"
    empty.write_text("{}\n")
    rows = []
    for name, embedder in EMBEDDERS.items():
        other = next(settings for key, settings in EMBEDDERS.items() if key != name)
        rounds = [_round(work, empty, corpus, embedder, other) for _ in range(ROUNDS)]
        plain = median(figures[0]["frames_per_s"] for figures in rounds)
        what = ("no cache", "cache, filled by this run", "cache, filled by another embedder's run")
        for kind, which in zip(what, range(3), strict=True):
            figures = [one[which] for one in rounds]
            rate = median(one["frames_per_s"] for one in figures)
            reading = median(one["decode_s"] / one["frames"] for one in figures)
            rows.append(
                (
                    name,
                    kind,
                    f"{figures[0]['cached_frames']:,} of {figures[0]['frames']:,}",
                    f"{rate:,.0f}",
                    f"{reading * 1e3:.2f} ms",
                    f"{rate / plain:.1f}",
                )
            )
    header = ("embedder", "run", "from the cache", "frames/s", "pixels of a frame", "times")
    table(f"Frame cache: 720p, {HEIGHT} px kept, one process", header, rows)


def _round(
    work: Path, config: Path, corpus: Path, embedder: tuple[str, ...], other: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Figures of three runs over an output that has had the other embedder: without a cache, with
    an empty one, with that of the other's run."""
    kept, output = work / "caching-kept", work / "caching-out"
    cache = (f"cache.height={HEIGHT}", f"cache.folder={kept}")
    found = []
    for before, settings in ((other, ()), (other, cache), ((*other, *cache), cache)):
        for folder in (kept, output):
            shutil.rmtree(folder, ignore_errors=True)
        _run(config, corpus, output, before)
        found.append(_run(config, corpus, output, (*embedder, *settings)))
    return found


def _run(config: Path, corpus: Path, output: Path, settings: tuple[str, ...]) -> dict[str, Any]:
    chosen = [part for setting in settings for part in ("--set", setting)]
    names = (str(config), str(corpus), "--output", str(output), "--engine", "local")
    return frameledger(*names, *chosen)[0]
