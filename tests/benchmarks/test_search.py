"""The benchmark's corpus, small: what is found is what NumPy finds, in the same order."""

from __future__ import annotations

import pytest

from benchmarks.search import K, compare
from benchmarks.search_making import DIMENSIONS, make, query
from pipeline.results.search import search


def test_the_best_are_those_of_numpy(tmp_path) -> None:
    make(tmp_path / "out", 20_000)
    hits = [h.as_dict() for h in search(tmp_path / "out", vector=query(), k=K, near=None)]
    compare(hits, 20_000)
    # Vectors at random have no neighbours that look like them.
    merged = [h.as_dict() for h in search(tmp_path / "out", vector=query(), k=K)]
    assert merged == hits
    assert query().shape == (DIMENSIONS,)
    swapped = [hits[1], hits[0], *hits[2:]]
    with pytest.raises(AssertionError):
        compare(swapped, 20_000)
