from __future__ import annotations

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
    detectron2 = {"backend": "detectron2", "config": "builtin:detectron2"}
    assert build(detector=detectron2) == [("Detectron2Detector", "detector", "detections")]
    assert build(embedder={"backend": "probe"}) == [("ProbeEmbedder", "embedder", "embeddings")]
