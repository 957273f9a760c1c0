"""What the tests of indexing and decoding share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.config import DecodeConfig
from pipeline.records import ShardEnd, Source
from pipeline.sources.decode import decode_shard
from pipeline.sources.discover import discover
from pipeline.sources.index import index_video
from pipeline.sources.plan import Grid, plan_video

LIMITS = DecodeConfig()


def source_of(path: Path) -> Source:
    (source,) = discover([str(path)])
    assert isinstance(source, Source)
    return source


def plain_decode(path: Path) -> list[tuple[int, np.ndarray]]:
    """(pts, displayed RGB) of every frame, by PyAV alone."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        return [
            (f.pts, np.rot90(f.to_ndarray(format="rgb24"), round(f.rotation / 90)))
            for f in container.decode(stream)
        ]


def owned_frames(path: Path, grid: Grid, config: DecodeConfig | None = None, wanted="rgb24"):
    """(frame_index, pixels of the frame) of all clips of all shards, and the shards' ends."""
    source = source_of(path)
    index = index_video(source, LIMITS)
    frames, ends = [], []
    for task in plan_video(source, index, grid):
        for item in decode_shard(task, 1, config or DecodeConfig(), wanted):
            if isinstance(item, ShardEnd):
                ends.append(item)
                continue
            for positions, pixels in item.owned():
                indices = task.sampled[positions - task.base]
                frames += zip(indices.tolist(), pixels.data, strict=True)
    return frames, ends
