"""The frame cache: another embedder over the same 720p videos, decoded again or not."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.measure import frameledger, table
from benchmarks.videos import demo_720p, remuxed_copies

COPIES = 3
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
    corpus, kept, output = (work / f"caching-{name}" for name in ("videos", "kept", "out"))
    for folder in (corpus, kept, output):
        shutil.rmtree(folder, ignore_errors=True)
    remuxed_copies(sources, corpus, COPIES)
    config = work / "caching.yaml"
    config.write_text("{}\n")
    cache = (f"cache.height={HEIGHT}", f"cache.folder={kept}")

    def one(what: str, *settings: str, times: float | None = None) -> float:
        chosen = [part for setting in settings for part in ("--set", setting)]
        names = (str(config), str(corpus), "--output", str(output), "--engine", "local")
        found, _ = frameledger(*names, *chosen)
        pixels = found["decode_s"] / found["frames"] * 1e3
        spent = found["steady_s"] / found["frames"] * 1e3
        faster = f"{times / spent:.1f}" if times is not None else ""
        there = f"{found['cached_frames']:,} of {found['frames']:,}"
        rows.append((what, there, f"{pixels:.2f} ms", f"{spent:.2f} ms", faster))
        return float(spent)

    rows: list[tuple[str, ...]] = []
    one("no embedder: index, decode, keep", *cache)
    for name, embedder in EMBEDDERS.items():
        plain = one(f"{name}, no cache", *embedder)
        one(f"{name}, from the cache", *embedder, *cache, times=plain)
    header = ("run", "frames there", "pixels of a frame", "a frame in all", "times as fast")
    table(f"Frame cache: 720p, {HEIGHT} px kept, one process", header, rows)
