"""The best moments against brute force over all rows at once, however the rows lie in files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.results import ranking
from pipeline.results.moments import Moment, Rows, local_peaks, reach
from pipeline.results.ranking import Wanted, best_moments, exact_scores
from pipeline.results.vectors import Block, unit

FPS = 10.0


@dataclass(frozen=True)
class Corpus:
    """Sampled frames of some videos, in memory."""

    videos: dict[str, Rows]
    blocks: list[list[tuple[str, int]]]
    """(video_id, place in its rows) of each row of each block."""
    stride: int = 1

    def each(self, use: Callable[[Block], None]) -> None:
        for block in self.blocks:
            table = {
                "video_id": [video_id for video_id, _ in block],
                "frame_index": [int(self.videos[v].frames[at]) for v, at in block],
                "pts_s": [float(self.videos[v].times[at]) for v, at in block],
            }
            vectors = np.stack([self.videos[v].vectors[at] for v, at in block])
            use(Block(vectors, pa.table(table), self.stride))

    def between(self, video_id: str, first: int, last: int) -> Rows | None:
        rows = self.videos[video_id]
        here = (rows.frames >= first) & (rows.frames <= last)
        if not here.any():
            return None
        return Rows(video_id, rows.frames[here], rows.times[here], rows.vectors[here])


def drifting(rng: np.random.Generator, count: int, stride: int, name: str) -> Rows:
    """A video whose picture drifts, stands still and is cut."""
    steps = rng.choice([0.0, 0.05, 0.2, 3.0], size=(count, 1), p=[0.3, 0.4, 0.25, 0.05])
    walk = np.cumsum(steps * rng.normal(size=(count, 4)), axis=0) + rng.normal(size=4)
    frames = np.arange(count, dtype=np.int64) * stride
    return Rows(name, frames, frames / FPS, unit(walk.astype(np.float32)))


@st.composite
def corpora(draw) -> tuple[Corpus, np.ndarray]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    counts = draw(st.lists(st.integers(1, 60), min_size=1, max_size=3))
    stride = draw(st.integers(1, 3))
    videos = {f"v{i}": drifting(rng, n, stride, f"v{i}") for i, n in enumerate(counts)}
    # Shards as they might have landed: runs of rows, in any order, in blocks of any size.
    runs = []
    for name, rows in videos.items():
        cuts = sorted({0, len(rows.frames), *rng.integers(0, len(rows.frames) + 1, 3).tolist()})
        runs += [[(name, at) for at in range(a, b)] for a, b in pairwise(cuts)]
    rng.shuffle(runs)
    rows = [row for run in runs for row in run]
    size = draw(st.integers(1, 40))
    blocks = [rows[at : at + size] for at in range(0, len(rows), size)]
    return Corpus(videos, blocks, stride), unit(rng.normal(size=(1, 4)).astype(np.float32))[0]


def brute_force(corpus: Corpus, wanted: Wanted) -> list[Moment]:
    """Greedy over all rows, as the definition says it."""
    rows = []
    for name, video in corpus.videos.items():
        scores = exact_scores(video.vectors, wanted.query)
        due = wanted.due(name, video.frames)
        if due is not None:
            rows += [(-float(s), name, at) for at, s in enumerate(scores) if due[at]]
    free = {name: np.ones(len(video.frames), bool) for name, video in corpus.videos.items()}
    found: list[Moment] = []
    for score, name, best in sorted(rows):
        video = corpus.videos[name]
        if not free[name][best]:
            continue
        low = high = best
        if wanted.near is not None:
            alike = np.einsum("ij,j->i", video.vectors, video.vectors[best]) >= wanted.near
            alike &= free[name]
            while low > 0 and alike[low - 1]:
                low -= 1
            while high + 1 < len(alike) and alike[high + 1]:
                high += 1
        ends = [(int(video.frames[at]), float(video.times[at])) for at in (best, low, high)]
        found.append(Moment(-score, name, *ends[0], *ends[1], *ends[2]))
        free[name][low : high + 1] = False
        near_s = np.abs(video.times - video.times[best]) < wanted.every_s - 1e-6
        free[name][near_s] = False
        if len(found) == wanted.k:
            break
    return found


@settings(max_examples=150)
@given(
    corpora(),
    st.integers(1, 30),
    st.sampled_from([None, 0.5, 0.9, 0.99]),
    st.sampled_from([0.0, 0.3, 2.0]),
    st.integers(1, 8),
    st.booleans(),
)
def test_moments_are_those_of_brute_force(made, k, near, every_s, pool, sieve) -> None:
    corpus, query = made
    due = (lambda _, frames: frames % 2 == 0) if sieve else Wanted.due
    last = {name: int(video.frames[-1]) for name, video in corpus.videos.items()}
    wanted = Wanted(query, k, near, every_s, due, last.__getitem__)
    # A pool of a few, as it is to a large corpus what 256 are to a larger one.
    kept, ranking.POOL = ranking.POOL, pool
    try:
        found = best_moments(corpus, wanted)
    finally:
        ranking.POOL = kept
    assert found == brute_force(corpus, wanted)


@given(corpora(), st.sampled_from([0.5, 0.9]))
def test_moments_hold_what_they_promise(made, near) -> None:
    corpus, query = made
    last = {name: int(video.frames[-1]) for name, video in corpus.videos.items()}
    found = best_moments(corpus, Wanted(query, 1000, near, last_frame=last.__getitem__))
    assert [m.score for m in found] == sorted((m.score for m in found), reverse=True)
    for name, video in corpus.videos.items():
        mine = sorted((m for m in found if m.video_id == name), key=lambda m: m.start_frame)
        # Every frame is in one of them, and in one only.
        inside = [f for m in mine for f in video.frames if m.start_frame <= f <= m.end_frame]
        assert inside == video.frames.tolist()
        scores = dict(zip(video.frames.tolist(), exact_scores(video.vectors, query), strict=True))
        for m in mine:
            assert m.score == max(scores[f] for f in scores if m.start_frame <= f <= m.end_frame)
            assert m.start_frame <= m.frame <= m.end_frame
            assert (m.start_s, m.time_s, m.end_s) == tuple(
                f / FPS for f in (m.start_frame, m.frame, m.end_frame)
            )


def test_of_equal_frames_the_earlier_is_the_best() -> None:
    still = np.tile(np.float32([1, 0, 0, 0]), (50, 1))
    frames = np.arange(50, dtype=np.int64)
    videos = {name: Rows(name, frames, frames / FPS, still) for name in ("b", "a")}
    blocks = [[("b", at) for at in range(50)], [("a", at) for at in range(25, 50)]]
    blocks.append([("a", at) for at in range(25)])
    corpus = Corpus(videos, blocks)
    query = np.float32([1, 0, 0, 0])
    merged = best_moments(corpus, Wanted(query, 5, 0.9, last_frame=lambda _: 49))
    assert [(m.video_id, m.frame, m.start_frame, m.end_frame) for m in merged] == [
        ("a", 0, 0, 49),
        ("b", 0, 0, 49),
    ]
    single = best_moments(corpus, Wanted(query, 60, None))
    assert [(m.video_id, m.frame) for m in single] == [
        *(("a", i) for i in range(50)),
        *(("b", i) for i in range(10)),
    ]
    apart = best_moments(corpus, Wanted(query, 60, None, every_s=1.0))
    assert [(m.video_id, m.frame) for m in apart] == [
        (name, i) for name in "ab" for i in range(0, 50, 10)
    ]


def test_hours_without_change_are_one_moment() -> None:
    """So many near-duplicates that they fill the pool: the rest is found all the same."""
    rng = np.random.default_rng(3)
    still = np.tile(np.float32([1, 0, 0, 0]), (3000, 1))
    others = unit(rng.normal(size=(20, 4)).astype(np.float32))
    vectors = np.concatenate([still, others])
    frames = np.arange(len(vectors), dtype=np.int64)
    videos = {"a": Rows("a", frames, frames / FPS, vectors)}
    rows = [("a", at) for at in range(len(vectors))]
    corpus = Corpus(videos, [rows[at : at + 8] for at in range(0, len(rows), 8)])
    wanted = Wanted(np.float32([1, 0, 0, 0]), 4, 0.95, last_frame=lambda _: len(vectors) - 1)
    found = best_moments(corpus, wanted)
    assert (found[0].start_frame, found[0].end_frame) == (0, 2999)
    assert found == brute_force(corpus, wanted)


@given(st.integers(0, 2**32), st.integers(1, 80), st.floats(-1, 1))
def test_reach_is_the_unbroken_run(seed: int, count: int, near: float) -> None:
    rows = drifting(np.random.default_rng(seed), count, 1, "v")
    best = seed % count
    start, stop = reach(rows.vectors, best, near)
    alike = np.einsum("ij,j->i", rows.vectors, rows.vectors[best]) >= near
    alike[best] = True
    assert start <= best < stop
    assert alike[start:stop].all()
    assert start == 0 or not alike[start - 1]
    assert stop == count or not alike[stop]


def test_no_more_peaks_than_asked_for() -> None:
    rows = drifting(np.random.default_rng(0), 40, 1, "v")
    every = np.ones(40, bool)
    scores = np.arange(40, dtype=np.float32)
    found = local_peaks(rows, scores, every, every, None, 0.0, 3)
    assert [peak.frame for peak in found] == [39, 38, 37]


@pytest.mark.parametrize("dimensions", [4, 512])
def test_scores_are_exact_and_the_same_wherever_a_row_lies(dimensions: int) -> None:
    rng = np.random.default_rng(0)
    vectors = unit(rng.normal(size=(300, dimensions)).astype(np.float32))
    query = unit(rng.normal(size=(1, dimensions)).astype(np.float32))[0]
    exact = (vectors.astype(np.float64) @ query.astype(np.float64)).astype(np.float32)
    whole = exact_scores(vectors, query)
    np.testing.assert_allclose(whole, exact, rtol=0, atol=1e-7)
    for at in (0, 7, 299):
        assert exact_scores(vectors[at : at + 1], query)[0] == whole[at]
