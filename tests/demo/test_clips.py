"""Clips for training, and worlds for measuring: what they show is what their masks say."""

from __future__ import annotations

import numpy as np

from pipeline.demo.clips import clip_batch, training_clip
from pipeline.demo.evaluate_tracker import CROSSINGS, crossings, held_out
from pipeline.demo.samples import HEIGHT, TRAINING_SEED, WIDTH
from pipeline.demo.world import World


def test_a_clip_is_a_function_of_its_number() -> None:
    one, two = training_clip(3, 2, 3), clip_batch(2, 3, 2, 3)
    assert two.images.shape == (3, 2, HEIGHT, WIDTH, 3)
    assert two.masks.shape == (3, 2, 3, HEIGHT, WIDTH)
    assert np.array_equal(one.images[0], two.images[1])
    assert np.array_equal(one.masks[0], two.masks[1])
    assert np.array_equal(one.boxes[0], two.boxes[1])


def test_objects_are_where_their_prompts_are() -> None:
    clips = clip_batch(0, 6, 1, 3)
    for masks, boxes in zip(clips.masks[:, 0], clips.boxes, strict=True):
        for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
            rows, columns = np.nonzero(mask)
            near = 0.25 * max(x2 - x1, y2 - y1)
            assert columns.min() > x1 - near
            assert columns.max() < x2 + near
            assert rows.min() > y1 - near
            assert rows.max() < y2 + near


def test_owners_are_what_can_be_seen() -> None:
    world = World(5, frame_count=1)
    owners = world.owners_at(0.0)
    assert owners.shape == (world.height, world.width)
    for one in world.objects(0):
        x1, y1, x2, y2 = one.box
        rows, columns = np.nonzero(owners == one.object_id + 1)
        assert (len(rows) > 0) == (one.visibility > 0)
        if len(rows):
            assert x1 - 1 <= columns.min() <= columns.max() <= x2
            assert y1 - 1 <= rows.min() <= rows.max() <= y2


def test_measured_worlds_are_held_out_and_have_crossings() -> None:
    world = next(held_out())
    assert world.seed < TRAINING_SEED
    assert crossings(world) >= CROSSINGS
    # Apart at both ends of it, and nothing crosses within a frame.
    assert crossings(World(world.seed, frame_count=1)) == 0
