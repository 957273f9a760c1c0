"""Clips and shards: every sampled frame has one owner, every clip one shard, for any input."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.records import Source, VideoIndex
from pipeline.sources.plan import Grid, clip_count, clips, owners, plan_video, sampled_frames

SOURCE = Source("/videos/a.mp4", "1:1", 1)


def make_index(frame_count: int, keyframes: list[int], exact: bool = True) -> VideoIndex:
    return VideoIndex(
        video_id="ab" * 32,
        pts=np.arange(frame_count, dtype=np.int64) * 1001,
        keyframes=np.array(sorted({0, *keyframes}), dtype=np.int64),
        time_base=Fraction(1, 30000),
        stream_index=0,
        container="mov",
        codec="h264",
        pixel_format="yuv420p",
        width=64,
        height=48,
        rotation=0,
        duration_s=frame_count / 30,
        exact_pts=exact,
    )


@st.composite
def indexes(draw):
    frame_count = draw(st.integers(1, 3000))
    keys = draw(st.lists(st.integers(0, frame_count - 1), max_size=40))
    return make_index(frame_count, keys, exact=draw(st.booleans()))


@st.composite
def grids(draw):
    length = draw(st.integers(1, 100))
    sampling = draw(
        st.one_of(
            st.builds(lambda n: {"stride": n}, st.integers(1, 50)),
            st.builds(lambda x: {"fps": str(x)}, st.fractions(Fraction(1, 10), 60)),
            st.just({"keyframes": True}),
        )
    )
    step = draw(st.integers(1, length))
    return Grid(sampling, length, step, shard_frames=draw(st.integers(1, 600)))


@given(indexes(), grids())
def test_every_sampled_frame_has_one_owner_and_every_clip_one_shard(index, grid):
    tasks = plan_video(SOURCE, index, grid)
    sampled = sampled_frames(index, grid.sampling)
    owned = [
        frame
        for task in tasks
        for clip in task.shard.clips
        for frame in task.frames_of(clip.own_start, clip.own_stop)
    ]
    assert owned == sampled.tolist()
    numbers = [clip.clip_index for task in tasks for clip in task.shard.clips]
    assert numbers == list(range(clip_count(len(sampled), grid.length, grid.step)))
    assert [task.shard.shard_index for task in tasks] == list(range(len(tasks)))
    assert {task.shard.shard_count for task in tasks} == {len(tasks)}
    assert sum(task.frame_count for task in tasks) == len(sampled)


@given(st.integers(0, 500), st.integers(1, 60), st.data())
def test_windows_have_their_length_and_only_the_last_is_short(n, length, data):
    step = data.draw(st.integers(1, length))
    made = clips(n, length, step)
    assert all(clip.stop - clip.start == length for clip in made[:-1])
    assert all(clip.start == k * step for k, clip in enumerate(made))
    if made:
        assert made[-1].stop == n
        assert 0 < made[-1].stop - made[-1].start <= length


@given(st.integers(1, 500), st.integers(1, 60), st.data())
def test_owners_are_those_of_the_clips(n, length, data):
    step = data.draw(st.integers(1, length))
    expected = np.empty(n, np.int64)
    for clip in clips(n, length, step):
        expected[clip.own_start : clip.own_stop] = clip.clip_index
    np.testing.assert_array_equal(owners(np.arange(n), n, length, step), expected)


def test_owner_is_the_window_with_the_most_context():
    # Length 8, step 4: of the four shared positions two go to each side.
    assert [(c.own_start, c.own_stop) for c in clips(20, 8, 4)] == [
        (0, 6),
        (6, 10),
        (10, 14),
        (14, 20),
    ]


@given(indexes(), grids())
def test_shards_begin_near_a_keyframe(index, grid):
    """What a shard decodes in vain before its first frame is less than what one clip spans."""
    tasks = plan_video(SOURCE, index, grid)
    if not index.exact_pts:
        assert len(tasks) <= 1
        return
    sampled = sampled_frames(index, grid.sampling)
    for before, task in pairwise(tasks):
        first = int(task.sampled[0])
        keyframe = int(index.keyframes[np.searchsorted(index.keyframes, first, "right") - 1])
        previous_clip = before.shard.clips[-1]
        assert keyframe > sampled[previous_clip.start]


def test_a_single_keyframe_is_a_single_shard():
    tasks = plan_video(SOURCE, make_index(100_000, []), Grid({"stride": 1}, 32, 32))
    assert len(tasks) == 1
    assert len(tasks[0].shard.clips) == 3125


def test_a_long_video_has_many_shards_of_about_the_wanted_size():
    index = make_index(100_000, list(range(0, 100_000, 250)))
    tasks = plan_video(SOURCE, index, Grid({"stride": 1}, 32, 32, shard_frames=1024))
    sizes = [task.frame_count for task in tasks]
    assert min(sizes[:-1]) >= 1024
    assert max(sizes) <= 1024 + 250 + 32


@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 64])
def test_clip_count(n):
    assert clip_count(n, 32, 32) == -(-n // 32)
