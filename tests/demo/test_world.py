import numpy as np
import pytest

from pipeline.demo.pattern import strip_height
from pipeline.demo.world import CLASSES, World


def test_two_worlds_of_a_seed_are_alike_to_the_bit() -> None:
    first, second = World(5), World(5)
    assert first.objects(17) == second.objects(17)
    assert np.array_equal(first.render(17), second.render(17))


def test_seeds_and_frames_differ() -> None:
    assert not np.array_equal(World(5).render(3), World(6).render(3))
    assert not np.array_equal(World(5).render(3), World(5).render(4))


def test_a_frame_does_not_depend_on_the_frames_rendered_before() -> None:
    fresh, used = World(8), World(8)
    for index in range(10):
        used.render(index)
    assert np.array_equal(fresh.render(40), used.render(40))


def test_times_replace_the_frame_rate() -> None:
    steady = World(2, frame_count=4, fps=10)
    uneven = World(2, frame_count=3, times_s=[0.0, 0.1, 0.3])
    assert uneven.objects(2) == steady.objects(3)
    with pytest.raises(ValueError, match="one time for each frame"):
        World(2, frame_count=3, times_s=[0.0])


def test_frames_outside_the_world_are_refused() -> None:
    with pytest.raises(IndexError, match="frame_index = 5"):
        World(2, frame_count=5).render(5)


@pytest.mark.parametrize(("width", "height"), [(64, 48), (256, 160), (640, 360)])
@pytest.mark.parametrize("class_id", range(3))
def test_the_box_is_where_the_pixels_change(width: int, height: int, class_id: int) -> None:
    """Against the same world without its one object, the frame differs in the box alone."""
    world = World(21, width, height, class_ids=[class_id])
    empty = World(21, width, height, class_ids=[])
    compared = 0
    for index in range(0, 120, 10):
        changed = (world.render(index) != empty.render(index)).any(axis=2)
        objects = world.objects(index)
        if not objects:
            assert not changed.any()
            continue
        ys, xs = np.nonzero(changed)
        found = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert np.abs(np.array(found) - objects[0].box).max() <= 1.5
        compared += 1
    assert compared >= 4


def test_visibility_is_the_share_of_pixels_seen() -> None:
    """A circle's visible pixels, counted by their colour, against its area."""
    world = World(33, class_ids=[0, 0, 4])
    for index in range(0, 120, 8):
        frame = world.render(index).astype(int)
        red = (frame[..., 0] > 90) & (frame[..., 1] < 60) & (frame[..., 2] < 60)
        expected = sum(
            o.visibility * np.pi * world.sprites[o.object_id].radius ** 2
            for o in world.objects(index)
            if o.class_id == 0
        )
        # The rim of a circle is blended with what is under it, so the count is a little low.
        assert red.sum() == pytest.approx(expected, rel=0.14, abs=30)


def test_objects_overlap_leave_and_return() -> None:
    hidden = left = returned = 0
    for seed in range(12):
        world = World(seed, frame_count=300)
        seen = [{o.object_id: o for o in world.objects(i)} for i in range(0, 300, 5)]
        for sprite in world.sprites:
            shares = [s[sprite.object_id].visibility if sprite.object_id in s else 0 for s in seen]
            gone = [i for i, share in enumerate(shares) if share == 0]
            left += bool(gone)
            returned += any(max(shares[:i], default=0) > 0.9 < max(shares[i:]) for i in gone)
            middles = [
                s[sprite.object_id]
                for s in seen
                if sprite.object_id in s
                and s[sprite.object_id].box[0] > 5
                and s[sprite.object_id].box[2] < 251
                and s[sprite.object_id].box[1] > 5
                and s[sprite.object_id].box[3] < world.scene_height - 5
            ]
            hidden += any(o.visibility < 0.8 for o in middles)
    assert min(hidden, left, returned) >= 5


def test_boxes_stay_in_the_picture_above_the_strip() -> None:
    world = World(3, 320, 200)
    for index in range(0, 120, 7):
        for o in world.objects(index):
            x1, y1, x2, y2 = o.box
            assert 0 <= x1 < x2 <= 320
            assert 0 <= y1 < y2 <= 200 - strip_height(200)
            assert 0 <= o.visibility <= 1
            assert o.class_name == CLASSES[o.class_id]
