from __future__ import annotations

import numpy as np
import pytest

from pipeline.analyzers.columns import detections_table, embeddings_table


def test_detections() -> None:
    table = detections_table(
        np.array([0, 2]),
        np.array([[1, 2, 3, 4], [5, 6, 7, 8]], dtype=np.float32),
        np.array([0.9, 0.8], dtype=np.float32),
        np.array([7, 1]),
        {1: "dog"},
    )
    first, second = table.to_pylist()
    assert second == {
        "local": 2,
        "x1": 5.0,
        "y1": 6.0,
        "x2": 7.0,
        "y2": 8.0,
        "score": pytest.approx(0.8),
        "class_id": 1,
        "class_name": "dog",
        "mask": None,
        "keypoints": None,
    }
    assert first["class_name"] == "7"


def test_embeddings_of_any_memory_layout() -> None:
    embeddings = np.arange(12, dtype=np.float32).reshape(4, 3).T
    table = embeddings_table(embeddings)
    assert table.column("local").to_pylist() == [0, 1, 2]
    assert table.column("embedding").to_pylist() == embeddings.tolist()
