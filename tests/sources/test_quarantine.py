"""A shard without some of its clips: the rest is what it would have been."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.config import DecodeConfig
from pipeline.ledger.outcomes import lost_frames
from pipeline.ledger.remap import remap
from pipeline.records import Analysis, ClipResult, Quarantine, ShardEnd
from pipeline.sources.decode import decode_shard
from pipeline.sources.index import index_video
from pipeline.sources.plan import Grid, plan_video
from tests.sources.decoding import LIMITS, source_of
from tests.videos import make


def decoded(task):  # type: ignore[no-untyped-def]
    """Pixels by frame index as the clips own them, the clips' order, and the end."""
    pixels, order = {}, []
    for item in decode_shard(task, 1, DecodeConfig(), "rgb24"):
        if isinstance(item, ShardEnd):
            return pixels, order, item
        order.append(item.clip.clip_index)
        for positions, part in item.owned():
            frames = task.sampled[positions - task.base].tolist()
            pixels |= dict(zip(frames, part.data.copy(), strict=True))
    raise AssertionError("no end")


def without(task, *clips: int):  # type: ignore[no-untyped-def]
    given_up = tuple(Quarantine(clip, "decode", "it hangs", 3) for clip in clips)
    return replace(task, quarantined=given_up, analyses=("f",))


@pytest.fixture(scope="module", params=[(8, 8), (8, 4)], ids=["apart", "overlapping"])
def task(request, tmp_path_factory):
    path = make(tmp_path_factory.mktemp("v") / "a.mp4", 60, gop=10, b_frames=2)
    source = source_of(path)
    length, step = request.param
    grid = Grid(sampling={"stride": 2}, length=length, step=step)
    (task,) = plan_video(source, index_video(source, LIMITS), grid)
    return task


@pytest.mark.parametrize("gone", [(0,), (1,), (2, 3), (0, 1), "last", "all"])
def test_the_other_clips_are_as_before(task, gone):
    numbers = [clip.clip_index for clip in task.shard.clips]
    gone = {"last": numbers[-1:], "all": numbers}.get(gone, gone)
    whole, _, _ = decoded(task)
    part = without(task, *gone)
    pixels, order, end = decoded(part)
    lost = {
        frame
        for clip in task.shard.clips
        if clip.clip_index in gone
        for frame in task.frames_of(clip.own_start, clip.own_stop).tolist()
    }
    assert set(pixels) == set(whole) - lost
    assert all(np.array_equal(pixels[frame], whole[frame]) for frame in pixels)
    assert order == [n for n in numbers if n not in gone] + [n for n in numbers if n in gone]
    assert (end.missing, end.clip_count) == ((), len(numbers))


def test_what_is_left_out_is_failed_and_said(task):
    part = without(task, 1)
    results, end = [], None
    for item in decode_shard(part, 1, DecodeConfig(), "rgb24"):
        if isinstance(item, ShardEnd):
            end = item
            continue
        positions = np.concatenate([p for p, _ in item.owned()] or [np.empty(0, np.int64)])
        sizes = np.tile(np.array([[128, 96]], np.int32), (len(positions), 1))
        results.append(ClipResult(task.key, 1, item.clip, positions, sizes, {}, 0.0))
    assert end is not None
    rows = remap(part, results, end, {"f": Analysis("frames", "frames", {})}, "run")["f"]
    clip = task.shard.clips[1]
    frames = task.frames_of(clip.own_start, clip.own_stop).tolist()
    failed = [
        frame
        for frame, status in zip(
            rows.column("frame_index").to_pylist(), rows.column("status").to_pylist(), strict=True
        )
        if status == "failed"
    ]
    assert failed == frames
    (failure,) = lost_frames(part, end, "f")
    assert (failure.first_frame, failure.last_frame) == (frames[0], frames[-1])
    assert (failure.stage, failure.attempts, failure.analysis) == ("decode", 3, "f")
    assert failure.reason == "quarantined: it hangs"


def test_what_an_earlier_run_has_said_is_not_said_again(task):
    known = replace(without(task, 1).quarantined[0], known=True)
    end = ShardEnd(task.key, 1, len(task.shard.clips))
    assert lost_frames(replace(task, quarantined=(known,)), end, "f") == []
