from __future__ import annotations

import numpy as np
import pytest

from pipeline.compare import BOX_PX, SCORE, compare_boxes, compare_embeddings, differences
from tests.ledger.corpus import make_index


def vector(*values: float) -> list[dict[str, object]]:
    return [{"embedding": list(values)}]


def box(x1: float = 0.0, score: float = 0.9, class_id: int = 3) -> dict[str, object]:
    sides = {"x1": x1, "y1": 0.0, "x2": 20.0, "y2": 10.0}
    return {**sides, "score": score, "class_id": class_id, "class_name": "thing"}


@pytest.mark.parametrize(
    ("there", "again", "said"),
    [
        (vector(1.0, 0.0), vector(1.0, 0.001), ""),
        (vector(1.0, 0.0), vector(0.995, 0.0998749), "cosine 0.995000"),
        (vector(2.0, 0.0), vector(1.0, 0.0), "of length 2, made again 1"),
        (vector(1.0, 0.0), vector(1.0, 0.0, 0.0), "2 dimensions, made again 3"),
        (vector(float("nan"), 1.0), vector(1.0, 0.0), "of length nan"),
        (vector(0.0, 0.0), vector(0.0, 0.0), ""),
        ([], vector(1.0), "0 embeddings, made again 1"),
    ],
)
def test_embeddings(there, again, said: str) -> None:
    assert said in compare_embeddings(there, again)
    assert bool(said) == bool(compare_embeddings(there, again))


@pytest.mark.parametrize(
    ("there", "again", "said"),
    [
        ([box(), box(5)], [box(5), box()], ""),
        ([box()], [box(x1=BOX_PX, score=0.9 + SCORE / 2)], ""),
        ([box()], [box(x1=BOX_PX + 0.1)], "is not among the 1 made again"),
        ([box()], [box(score=0.8)], "is not among the 1 made again"),
        ([box()], [box(class_id=4)], "is not among the 1 made again"),
        ([box(), box()], [box()], "is not among the 1 made again"),
        ([], [box()], "made again, is not among the 0 there"),
        ([box(score=0.5004)], [], ""),
        ([], [box(score=0.5004)], ""),
    ],
)
def test_boxes(there, again, said: str) -> None:
    found = compare_boxes(there, again, threshold=0.5)
    assert said in found
    assert bool(said) == bool(found)


def test_indices() -> None:
    from dataclasses import replace

    one = make_index("a")
    assert list(differences(one, make_index("a"))) == []
    other = replace(one, pts=one.pts + np.int64(1), rotation=90)
    assert list(differences(one, other)) == ["pts", "rotation"]
