"""Videos whose detections have landed, for passes of SAM 2: real files, real tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.config import Config, DecodeConfig
from pipeline.config_file import parse_config
from pipeline.demo.video import write_video
from pipeline.demo.world import World
from pipeline.engine.job import Job
from pipeline.ledger.folder import folder_at
from pipeline.records import Source, VideoIndex
from pipeline.sources.files import look
from pipeline.sources.index import index_video
from pipeline.tracks.light import Boxes
from pipeline.tracks.sam2_pass import Sam2Follower
from tests.tracks.made import Scene, boxes, detect, make_job

FRAMES = 40
SIZE = (128, 80)
SHARD_FRAMES = 10
"""With the fixture `short_shards`."""


@dataclass(frozen=True)
class Made:
    """A video, and what a detector that errs in nothing finds in it."""

    source: Source
    index: VideoIndex
    scene: Scene


def shorten_shards(patch: pytest.MonkeyPatch) -> None:
    from pipeline.sources.plan import Grid

    def short(**settings):  # type: ignore[no-untyped-def]
        return Grid(**settings, shard_frames=SHARD_FRAMES)

    patch.setattr("pipeline.engine.job.Grid", short)


def make(path: Path, seed: int, count: int = FRAMES) -> Made:
    world = World(seed, *SIZE, frame_count=count)
    write_video(path, world, gop=10)

    def scene(frame: int, time_s: float) -> Boxes:
        found = [(*one.box, 0.9, one.class_id) for one in world.objects(frame)]
        return boxes(*(one for one in found if one[2] > one[0] and one[3] > one[1]))

    source = look(str(path))
    return Made(source, index_video(source, DecodeConfig()), scene)


def config(model: Path, length: int = 10, **tracker: object) -> Config:
    """Masks of random weights are not where the boxes are, which is no matter here."""
    loose = {"match_iou": 0.001, "duplicate_iou": 1.0, "new_frames": 1, "most_objects": 2}
    data = {
        "clip": {"length": length},
        "detector": {"backend": "transformers", "model": "builtin:detector"},
        "tracker": {"backend": "sam2", "model": str(model), **loose, **tracker},
    }
    return parse_config(data, where="test")


def detected(output: Path, chosen: Config, made: Made) -> Job:
    job = make_job(output, chosen)
    assert detect(job, made.index, made.scene, source=made.source) > 1
    return job


def assert_tidy(output: object) -> None:
    assert [name for name in folder_at(str(output)).folders("") if name.startswith("_")] == []


def cut_at(shard: int):  # type: ignore[no-untyped-def]
    """In place of `Sam2Follower._state`: the run ends within this shard."""
    state, asked = Sam2Follower._state, []

    def cut(self, tracker, is_last):  # type: ignore[no-untyped-def]
        asked.append(1)
        if len(asked) > shard:
            raise KeyboardInterrupt
        return state(self, tracker, is_last)

    return cut
