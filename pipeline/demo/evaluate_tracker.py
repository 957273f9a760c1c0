"""Measure the demo's SAM 2: masks of objects that are prompted once, through crossings.

python -m pipeline.demo.evaluate_tracker [FOLDER]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.demo.world import World
from pipeline.tracks.samurai import box_iou

if TYPE_CHECKING:
    from pipeline.tracks.sam2_model import LoadedSam2

Memory = Literal["samurai", "recent"]
MEMORIES: tuple[Memory, ...] = ("samurai", "recent")
FRAMES = 200
CROSSINGS = 2
"""That a world has at least."""
WORLDS = 4
_MEET = 0.2
"""IoU of the boxes of two objects that cross."""
_MIN_VISIBILITY = 0.5
"""Of an object that is prompted, in the first frame."""
_MIN_PIXELS = 40
"""That can be seen of an object in a frame that counts."""


@dataclass(frozen=True)
class MaskScore:
    """How well the objects of one world are followed."""

    seed: int
    crossings: int
    objects: int
    iou: float
    """Mean over objects and frames of the mask and what can be seen of the object; 0 where it has
    no mask."""
    swapped: float
    """Share of these in which the mask is rather of another object."""


def crossings(world: World) -> int:
    """How often two objects meet and part again."""
    count = 0
    met: set[tuple[int, int]] = set()
    for frame in range(world.frame_count):
        boxes = {one.object_id: one.box for one in world.objects(frame)}
        now = {
            pair for pair in combinations(sorted(boxes), 2) if _meet(boxes[pair[0]], boxes[pair[1]])
        }
        count += len(met - now)
        met = now
    return count


def _meet(one: Any, other: Any) -> bool:
    return box_iou(one, other) >= _MEET


def held_out() -> Iterator[World]:
    """Worlds of no training seed with crossings enough."""
    for seed in range(100, 10_000):
        world = World(seed, frame_count=FRAMES)
        if crossings(world) >= CROSSINGS:
            yield world


def follow_world(world: World, loaded: LoadedSam2, memory: Memory) -> MaskScore:
    """Prompt each object of the first frame with its box, and follow them to the end."""
    from pycocotools import mask as coco

    from pipeline.config_trackers import Sam2Config
    from pipeline.tracks.light import Boxes
    from pipeline.tracks.prompts import Prompt
    from pipeline.tracks.sam2 import Sam2Tracker

    config = Sam2Config(
        backend="sam2", model="builtin:tracker", memory=memory, lost_seconds=1e9, duplicate_iou=1.0
    )
    tracker = Sam2Tracker(config, loaded)
    seen = [one for one in world.objects(0) if one.visibility >= _MIN_VISIBILITY]
    prompts = [Prompt(one.class_id, one.box) for one in seen]
    nothing = Boxes(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    ious, swapped = [], []
    for frame in range(world.frame_count):
        time_s = world.time_s(frame)
        rows = tracker.step(time_s, world.render(frame), nothing, prompts if frame == 0 else ())
        owners = world.owners_at(time_s)
        truth = {n: owners == n + 1 for n in range(len(world.sprites))}
        masks = {row.track_id: row.mask for row in rows if row.mask is not None}
        for number, one in enumerate(seen, start=1):
            if truth[one.object_id].sum() < _MIN_PIXELS:
                continue
            each = np.zeros(len(truth))
            if number in masks:
                size = [world.height, world.width]
                mask = coco.decode({"size": size, "counts": masks[number]}).astype(bool)
                each = np.array([_iou(mask, truth[n]) for n in range(len(truth))])
            ious.append(each[one.object_id])
            swapped.append(each.max() > 0 and int(each.argmax()) != one.object_id)
    return MaskScore(
        world.seed,
        crossings(world),
        len(seen),
        float(np.mean(ious)),
        float(np.mean(swapped)),
    )


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def measure_tracker(folder: Path, log: Callable[[str], None], worlds: int = WORLDS) -> None:
    """Log a line for each world and memory, and the means."""
    from pipeline.tracks.sam2_model import load

    loaded = load(folder, "cpu")
    scores: dict[str, list[MaskScore]] = {memory: [] for memory in MEMORIES}
    for world in islice(held_out(), worlds):
        for memory in MEMORIES:
            score = follow_world(world, loaded, memory)
            scores[memory].append(score)
            log(
                f"world {score.seed} ({score.objects} objects, {score.crossings} crossings) "
                f"{memory}: mask IoU {score.iou:.3f}, of another object {score.swapped:.1%}"
            )
    for kind, each in scores.items():
        mean = sum(one.iou for one in each) / len(each)
        log(f"{kind}: mask IoU {mean:.3f} over {len(each)} worlds of {FRAMES} frames")
