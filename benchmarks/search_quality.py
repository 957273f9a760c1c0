"""Precision of text search on demo worlds, with near-duplicates merged into moments."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from benchmarks.measure import table

CORPORA = 5
"""Of six videos each: in one alone, few queries have ten moments to be found."""
K = 10


def quality(work: Path, _videos: Path | None, corpora: int = CORPORA) -> None:
    """Print precision@10 over the demo's 30 queries, by the cosine from which frames are merged."""
    from pipeline.analyzers.models import resolve_model
    from pipeline.analyzers.text import text_embeddings
    from pipeline.demo.corpus import make_corpus
    from pipeline.demo.queries import QUERIES
    from pipeline.demo.show import demo_config
    from pipeline.ledger.reader import Ledger
    from pipeline.results.moments import NEAR
    from pipeline.results.search import search
    from pipeline.runner import run

    root = work / "search-quality"
    shutil.rmtree(root, ignore_errors=True)
    made = [make_corpus(root / "videos" / str(seed), seed=seed) for seed in range(corpora)]
    videos = {str(video.path.resolve()): video for corpus in made for video in corpus}
    config = demo_config().model_copy(update={"detector": None})
    run(config, [str(root / "videos")], root / "out", engine="local")
    ledger = Ledger(root / "out")
    words = text_embeddings(resolve_model("builtin:clip", None), [q.text for q in QUERIES])
    rows = []
    for near in (None, 0.98, NEAR):
        right, moments = [], []
        for query, vector in zip(QUERIES, words, strict=True):
            hits = search(ledger, vector=vector, k=K, near=near)
            true = [query.holds(videos[h.uri].truth(h.frame_index)) for h in hits]
            right.append(sum(true) / K)
            moments.append(np.mean([h.end_s - h.start_s for h in hits]))
        what = "frame by frame" if near is None else f"cosine of {near} and more merged"
        cells = (np.mean(right), min(right), np.mean(moments))
        rows.append((what, *(f"{cell:.3f}" for cell in cells)))
    frames = sum(video.frame_count for video in videos.values())
    title = f"Search: precision@{K}, {len(QUERIES)} queries, {len(videos)} demo videos, {frames:,}"
    table(f"{title} frames", ("moments", "mean", "least", "seconds a moment"), rows)
    shutil.rmtree(root)
