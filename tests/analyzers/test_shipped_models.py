"""The demo's own models through the analyzers, on worlds that they were not trained on."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.analyzers.frames import FrameBatch
from pipeline.analyzers.models import resolve_model
from pipeline.analyzers.registry import build_analyzers
from pipeline.analyzers.text import text_embeddings
from pipeline.config import Config
from pipeline.demo.queries import one_of
from pipeline.demo.score import intersection_over_union
from pipeline.demo.world import CLASSES, World, WorldObject
from tests.analyzers.tiny import rgb_pixels

WIDTH, HEIGHT = 256, 160


def frames_of_worlds(count: int) -> tuple[FrameBatch, list[list[WorldObject]]]:
    worlds = [World(seed, WIDTH, HEIGHT) for seed in range(count)]
    frames = np.stack([world.render_at(4.0) for world in worlds])
    return FrameBatch(rgb_pixels(frames)), [list(world.objects_at(4.0)) for world in worlds]


def analyze(frames: FrameBatch, **section: Any) -> Any:
    (member,) = build_analyzers(Config.model_validate(section))
    member.setup("cpu")
    return member.analyze(frames)


def test_detector_finds_what_can_be_seen() -> None:
    frames, worlds = frames_of_worlds(12)
    detector = {"backend": "transformers", "model": "builtin:detector", "threshold": 0.3}
    rows = analyze(frames, detector=detector).to_pylist()
    found = []
    for number, objects in enumerate(worlds):
        for item in (o for o in objects if o.visibility > 0.6):
            boxes = [
                [row["x1"], row["y1"], row["x2"], row["y2"]]
                for row in rows
                if row["local"] == number and row["class_name"] == CLASSES[item.class_id]
            ]
            overlaps = intersection_over_union(item.box, np.reshape(boxes, (-1, 4)))
            found.append(overlaps.max(initial=0) > 0.5)
    assert len(found) > 20
    assert np.mean(found) > 0.8


def test_clip_tells_frames_by_their_objects() -> None:
    folder = resolve_model("builtin:clip")
    frames, worlds = frames_of_worlds(40)
    table = analyze(frames, embedder={"backend": "clip", "model": "builtin:clip"})
    images = np.array(table.column("embedding").to_pylist())
    phrases = [one_of(class_id) for class_id in range(len(CLASSES))]
    similarities = images @ text_embeddings(folder, [p.text for p in phrases]).T
    apart = []
    for column, phrase in zip(similarities.T, phrases, strict=True):
        holds = np.array([phrase.holds(objects) for objects in worlds])
        if holds.any() and not holds.all():
            apart.append(column[holds].mean() > column[~holds].mean())
    assert len(apart) > 10
    assert np.mean(apart) > 0.8
