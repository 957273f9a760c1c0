"""The vector index: from how many embeddings on it pays, what it costs, and what it misses."""

from __future__ import annotations

import shutil
import time
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.measure import table
from benchmarks.search_making import make, scenes

SIZES = (30_000, 100_000, 300_000, 1_000_000)
QUERIES, K = 20, 20


def search_index(work: Path, _videos: Path | None, sizes: tuple[int, ...] = SIZES) -> None:
    """Print the table; what was made is removed again."""
    header = ("frames", "build s", "in the graph", "MiB", "exact s", "index s", "recall", "least")
    rows = []
    for count in sizes:
        output = work / f"search-index-{count}"
        shutil.rmtree(output, ignore_errors=True)
        try:
            rows.append(_measured(output, count))
        finally:
            shutil.rmtree(output, ignore_errors=True)
    table(f"Search with a vector index, medians of {QUERIES} queries, k = {K}", header, rows)


def _measured(output: Path, count: int) -> tuple[str, ...]:
    from pipeline.ledger.reader import Ledger
    from pipeline.results.query import embeddings_analysis
    from pipeline.results.search import search
    from pipeline.results.vector_index import build_index

    make(output, count, scenes)
    ledger = Ledger(output)
    started = time.perf_counter()
    built = build_index(ledger, embeddings_analysis(ledger))
    seconds = time.perf_counter() - started
    spent: dict[bool, list[float]] = {False: [], True: []}
    recalls = []
    for vector in queries():
        found = {}
        for approximate, times in spent.items():
            ask = partial(search, Ledger(output), vector=vector, k=K, approximate=approximate)
            started = time.perf_counter()
            found[approximate] = {(hit.video_id, hit.frame_index) for hit in ask()}
            times.append(time.perf_counter() - started)
        recalls.append(len(found[True] & found[False]) / len(found[False]))
    return (
        f"{built.rows:,}",
        f"{seconds:.1f}",
        f"{built.nodes:,}",
        f"{built.size_bytes / 2**20:.1f}",
        *(f"{np.median(times):.2f}" for times in spent.values()),
        f"{np.mean(recalls):.3f}",
        f"{min(recalls):.3f}",
    )


def queries() -> list[np.ndarray]:
    """Frames of scenes of the same topics that are not in the corpus."""
    _, vectors = next(scenes(50 * QUERIES, seed=1))
    return list(islice(vectors[25::50], QUERIES))
