"""Clips of random worlds with the mask of every object: what the demo's SAM 2 is trained on.

Clip number n is a function of n alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.demo.pattern import MAX_INDEX, draw_index
from pipeline.demo.samples import HEIGHT, TRAINING_SEED, WIDTH, Image, degrade
from pipeline.demo.world import World

_SEED = 2 * TRAINING_SEED
_MIN_VISIBILITY = 0.4
"""Of an object in the frame that prompts it."""
_BOX_NOISE = 0.06
"""Standard deviation of a prompt's sides, of the box's size: a detector's boxes are not exact."""


@dataclass(frozen=True)
class Clips:
    """`n` clips of `t` frames with `p` objects each."""

    images: Image
    """uint8 RGB (n, t, height, width, 3)."""
    masks: npt.NDArray[np.bool_]
    """(n, t, p, height, width): what can be seen of each object."""
    boxes: npt.NDArray[np.float32]
    """(n, p, 4): about where each is in the first frame; x1, y1, x2, y2 in pixels."""


def training_clip(number: int, frames: int, objects: int) -> Clips:
    """Clip `number`: one, in a world of its own, 1/30 to 4/30 s from frame to frame."""
    rng = np.random.default_rng([_SEED, number])
    while True:
        world = World(_SEED + int(rng.integers(0, 10**6)), WIDTH, HEIGHT)
        start, step = float(rng.uniform(0, 12)), float(rng.integers(1, 5)) / 30
        seen = [o for o in world.objects_at(start) if o.visibility >= _MIN_VISIBILITY]
        if seen:
            break
    chosen = [seen[at] for at in rng.permutation(len(seen))[:objects]]
    chosen += [chosen[0]] * (objects - len(chosen))
    index = int(rng.integers(0, MAX_INDEX - frames))
    images, masks = [], []
    for at in range(frames):
        time_s = start + at * step
        frame = world.render_at(time_s, grain_seed=number + at)
        draw_index(frame, index + at)
        images.append(degrade(frame, rng))
        owners = world.owners_at(time_s)
        masks.append([owners == one.object_id + 1 for one in chosen])
    boxes = np.array([one.box for one in chosen], np.float32)
    sizes = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    boxes += (rng.normal(0, _BOX_NOISE, boxes.shape) * sizes).astype(np.float32)
    boxes = np.clip(boxes, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT]).astype(np.float32)
    return Clips(np.array(images)[None], np.array(masks)[None], boxes[None])


def clip_batch(first: int, size: int, frames: int, objects: int) -> Clips:
    """Clips [first, first + size) of the training set."""
    clips = [training_clip(first + at, frames, objects) for at in range(size)]
    return Clips(
        np.concatenate([one.images for one in clips]),
        np.concatenate([one.masks for one in clips]),
        np.concatenate([one.boxes for one in clips]),
    )


def clip_batches(plan: list[tuple[int, int]], objects: int) -> Iterator[Clips]:
    """A batch for each (clips, frames) of `plan`."""
    first = 0
    for size, frames in plan:
        yield clip_batch(first, size, frames, objects)
        first += size
