from __future__ import annotations

import pytest

from pipeline.analyzers.batching import AUTO_BATCH, batch_size, batches
from pipeline.analyzers.registry import build_analyzers
from pipeline.config import Config


def build(**sections: object) -> list[tuple[str, str, str]]:
    members = build_analyzers(Config.model_validate(sections))
    return [(type(m).__name__, m.name, m.table) for m in members]


def test_what_the_configuration_names_is_built() -> None:
    detector = {"backend": "transformers", "model": "builtin:detector"}
    clip = {"backend": "clip", "model": "builtin:clip"}
    first = ("TransformersDetector", "detector", "detections")
    assert build() == []
    assert build(detector=detector) == [first]
    assert build(detector=detector, embedder=clip) == [
        first,
        ("ClipEmbedder", "embedder", "embeddings"),
    ]
    assert build(embedder={"backend": "probe"}) == [("ProbeEmbedder", "embedder", "embeddings")]


@pytest.mark.parametrize(("count", "size"), [(0, 4), (1, 4), (4, 4), (5, 4), (7, 1)])
def test_batches_cover_every_frame_once(count: int, size: int) -> None:
    slices = list(batches(count, size))
    assert [i for batch in slices for i in range(count)[batch]] == list(range(count))
    assert all(batch.stop - batch.start <= size for batch in slices)


def test_batch_size() -> None:
    assert batch_size("auto", "cpu") == AUTO_BATCH["cpu"]
    assert batch_size("auto", "cuda:1") == AUTO_BATCH["cuda"]
    assert batch_size(5, "cuda") == 5
