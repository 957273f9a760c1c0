"""Small pictures beside whole ones: of the same frames, as they are displayed."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipeline.clip_pixels import ClipPixels, Pixels
from pipeline.config import DecodeConfig
from pipeline.demo.pattern import read_index
from pipeline.records import Clip
from pipeline.sources.decode import BufferPool, decode_shard
from pipeline.sources.index import index_video
from pipeline.sources.plan import Grid, plan_video
from tests.sources.decoding import LIMITS, source_of
from tests.videos import FORMS, HEIGHT, WIDTH, make

SIDE = 80
SMALL = (107, 80)


def decoded(path, wanted, config=None, pool=None, step=8):
    """(frame indices, whole pictures, small ones) of each clip."""
    source = source_of(path)
    grid = Grid({"stride": 2}, 8, step)
    for task in plan_video(source, index_video(source, LIMITS), grid):
        for item in decode_shard(task, 1, config or DecodeConfig(), wanted, pool, SIDE):
            if isinstance(item, ClipPixels):
                whole, small = (list(item.owned(scaled=scaled)) for scaled in (False, True))
                yield task, item, whole, small


@pytest.mark.parametrize(
    ("form", "backend"), [*((form, "pyav") for form in FORMS), ("plain.mp4", "opencv")]
)
def test_a_small_picture_is_its_whole_one_scaled(form, backend, tmp_path):
    path = make(tmp_path / form, 20, **FORMS[form])
    carried = []
    for task, _, [(positions, whole)], [(same, small)] in decoded(
        path, "rgb24", DecodeConfig(backend=backend)
    ):
        assert positions.tolist() == same.tolist()
        assert (small.width, small.height, small.format) == (*SMALL, "rgb24")
        assert small.displayed == whole.displayed == (WIDTH, HEIGHT)
        carried += [read_index(picture) for picture in small.data]
        assert carried[-len(positions) :] == task.sampled[positions - task.base].tolist()
        for one, other in zip(whole.data, small.data, strict=True):
            right = np.asarray(Image.fromarray(one).resize(SMALL, Image.Resampling.BOX))
            # Two ways to the mean of an area: only edges differ by more than some levels.
            assert np.abs(right.astype(int) - other).mean() < 4
    assert carried == list(range(0, 20, 2))


def test_small_ones_alone_are_the_same(tmp_path):
    path = make(tmp_path / "a.mp4", 30, gop=10, b_frames=2)
    beside = [small for *_, small in decoded(path, "yuv420p")]
    alone = list(decoded(path, None))
    assert not any(whole for _, _, whole, _ in alone)
    assert all(item.parts == () for _, item, _, _ in alone)
    for [(_, one)], (*_, [(_, other)]) in zip(beside, alone, strict=True):
        np.testing.assert_array_equal(one.data, other.data)


def test_windows_that_overlap_and_buffers_used_again(tmp_path):
    path = make(tmp_path / "a.mp4", 40, gop=10)
    pool, carried = BufferPool(), []
    for _, item, _, small in decoded(path, "rgb24", pool=pool, step=4):
        carried += [read_index(picture) for _, pixels in small for picture in pixels.data]
        pool.give_back(item)
        assert len(pool.free) == 2
    assert carried == list(range(0, 40, 2))


def test_a_buffer_of_somebody_else_is_not_written_to():
    data = np.zeros((2, 4, 6, 3), np.uint8)
    data.flags.writeable = False
    pixels = Pixels(data, "rgb24", 6, 4, scaled_from=(60, 40))
    clip = ClipPixels("a", 1, Clip(0, 0, 2, 0, 2), np.arange(2), (), 0.0, (pixels,))
    pool = BufferPool()
    pool.give_back(clip)
    assert pool.free == []
