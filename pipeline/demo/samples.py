"""Endless training samples: frames of random worlds, degraded as video compression degrades them.

Sample number n is a function of n alone, so a training sees the same frames whatever the number
of processes that render them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.demo.pattern import MAX_INDEX, draw_index
from pipeline.demo.world import World, WorldObject

if TYPE_CHECKING:
    from multiprocessing.pool import AsyncResult

WIDTH, HEIGHT = 256, 160
TRAINING_SEED = 1_000_000
"""Worlds of this seed and above are for training; held-out worlds have smaller seeds."""

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Batch:
    """Frames and what is in them."""

    images: Image
    """uint8 RGB (batch, height, width, 3)."""
    objects: tuple[tuple[WorldObject, ...], ...]


def training_sample(number: int) -> tuple[Image, tuple[WorldObject, ...]]:
    """Frame `number` of the training set: uint8 RGB (160, 256, 3), and its objects."""
    rng = np.random.default_rng([TRAINING_SEED, number])
    world = World(TRAINING_SEED + number, WIDTH, HEIGHT)
    time_s = float(rng.uniform(0, 12))
    frame = world.render_at(time_s, grain_seed=number)
    draw_index(frame, int(rng.integers(0, MAX_INDEX + 1)))
    return degrade(frame, rng), tuple(world.objects_at(time_s))


def degrade(frame: Image, rng: np.random.Generator) -> Image:
    """Compress most frames as JPEG with 4:2:0 chroma, and shift some in brightness and colour."""
    import cv2

    if rng.random() < 0.3:
        gain = rng.uniform(0.92, 1.08, 3)
        frame = np.clip(frame * gain + rng.uniform(-6, 6), 0, 255).astype(np.uint8)
    if rng.random() < 0.85:
        quality = int(rng.integers(25, 96))
        _, encoded = cv2.imencode(
            ".jpg", frame[..., ::-1], [int(cv2.IMWRITE_JPEG_QUALITY), quality]
        )
        decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), dtype=np.uint8)
        frame = np.ascontiguousarray(decoded[..., ::-1])
    return frame


def render_batch(first: int, size: int) -> Batch:
    """Samples [first, first + size) of the training set."""
    samples = [training_sample(number) for number in range(first, first + size)]
    images = np.stack([image for image, _ in samples])
    return Batch(images, tuple(objects for _, objects in samples))


def training_batches(steps: int, size: int, *, first: int = 0) -> Iterator[Batch]:
    """`steps` batches of `size`, rendered by one other process, a few batches ahead."""
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        ahead: list[AsyncResult[Batch]] = []
        render = partial(pool.apply_async, render_batch)
        for step in range(steps + 4):
            if step < steps:
                ahead.append(render((first + step * size, size)))
            if step >= 4:
                yield ahead.pop(0).get()
