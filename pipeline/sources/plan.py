"""From an index to clips and shards: pure arithmetic on sampled positions.

sampled   0 . . . . . . . . . . . . . . . . . . n
clips     [0......L)                               length L, every `step` positions
               [step...step+L)                     windows overlap where step < L
                    ...      [......n)             the last one may be short
owned     [........)[....)...[......n)             no overlap, no gap
shards    [ clips 0..k )[ clips k.. )              cut where a keyframe is near
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pipeline.records import Clip, Shard, ShardTask, Source, VideoIndex
from pipeline.sources.sampling import sampled_frames as sampled_frames

SHARD_FRAMES = 1024
"""Decoded frames after which a shard ends at the next clip that a keyframe is near to: some
seconds of decoding, so that a retry costs little and a short video stays whole. Part of what
names a frames analysis, since shards are what has landed or not."""


@dataclass(frozen=True)
class Grid:
    """What decides clips and shards besides the index; kept in the frames analysis' identity."""

    sampling: dict[str, object]
    length: int
    step: int
    decoder: str = "pyav"
    shard_frames: int = SHARD_FRAMES

    def identity(self) -> dict[str, object]:
        return {
            "sampling": self.sampling,
            "clip": {"length": self.length, "stride": self.step},
            "decoder": self.decoder,
            "shard_frames": self.shard_frames,
        }


def clip_count(n: int, length: int, step: int) -> int:
    """Number of windows of `length` every `step` positions that cover `n` positions."""
    if n <= 0:
        return 0
    return 1 + max(0, -(-(n - length) // step))


def clips(n: int, length: int, step: int) -> list[Clip]:
    """Windows over sampled positions `[0, n)`, each position owned by exactly one of them.

    The owner of a position is the window whose middle part it lies in: of the `length - step`
    positions that two windows share, the first half belongs to the earlier one. So a model that
    sees a window sees, for every frame that it writes, about as much before as after.

        window k    [..........)
        window k+1       [..........)
        shared           ^^^^^^
        owner       kkkkkkkk            then k+1
    """
    count = clip_count(n, length, step)
    lead = (length - step) // 2

    def own_start(k: int) -> int:
        return 0 if k == 0 else k * step + lead

    return [
        Clip(
            clip_index=k,
            start=k * step,
            stop=min(k * step + length, n),
            own_start=own_start(k),
            own_stop=n if k == count - 1 else own_start(k + 1),
        )
        for k in range(count)
    ]


def owners(positions: np.ndarray, n: np.ndarray | int, length: int, step: int) -> np.ndarray:
    """The clip that owns each of the sampled positions, as `clips` has it.

    Args:
        positions: int64, each of them among the `n` (above 0) of its video.
    """
    lead = (length - step) // 2
    last = np.maximum(0, -(-(n - length) // step))
    return np.clip((positions - lead) // step, 0, last)


def shards(
    clip_list: list[Clip], sampled: np.ndarray, keyframes: np.ndarray, shard_frames: int
) -> list[Shard]:
    """Cut a video's clips into shards of about `shard_frames` decoded frames, at keyframes.

    Decoding a shard begins at the keyframe at or before its first frame; what lies between is
    decoded for nothing. A cut is therefore made only before a clip that is the first to start at
    or after some keyframe (the waste is then less than the span of one clip), and a video with a
    single keyframe is one shard however long it is: any second shard would decode the first again.

    Args:
        clip_list: all clips of the video.
        sampled: int64 frame indices, what the clips' positions point into.
        keyframes: int64 ascending frame indices, the first of them 0.
        shard_frames: frames after which to look for a cut.
    """
    if not clip_list:
        return []
    starts = sampled[[clip.start for clip in clip_list]]
    key_before = np.searchsorted(keyframes, starts, side="right") - 1
    # The first clip at or after a keyframe: its keyframe is not that of the clip before.
    can_cut = np.append([True], key_before[1:] != key_before[:-1])
    cuts = [0]
    for i in range(1, len(clip_list)):
        if can_cut[i] and starts[i] - starts[cuts[-1]] >= shard_frames:
            cuts.append(i)
    bounds = [*cuts, len(clip_list)]
    return [
        Shard(shard_index=k, shard_count=len(cuts), clips=tuple(clip_list[a:b]))
        for k, (a, b) in enumerate(pairwise(bounds))
    ]


def plan_video(source: Source, index: VideoIndex, grid: Grid) -> list[ShardTask]:
    """All shards of a video as tasks; which analyses are due is filled in by the caller."""
    sampled = sampled_frames(index, grid.sampling)
    # Where a decoder cannot tell by pts where a seek has landed: one shard, from the start.
    seekable = index.exact_pts and grid.decoder == "pyav"
    keyframes = index.keyframes if seekable else index.keyframes[:1]
    every_clip = clips(len(sampled), grid.length, grid.step)
    tasks = []
    for shard in shards(every_clip, sampled, keyframes, grid.shard_frames):
        base, stop = shard.clips[0].start, max(clip.stop for clip in shard.clips)
        part = sampled[base:stop]
        tasks.append(ShardTask(source, index, part, base, shard, analyses=()))
    return tasks
