"""How long a piece of work may take, by its size: what is stuck is told from what is large."""

from __future__ import annotations

from pipeline.config import EngineConfig
from pipeline.records import ShardTask, Source

BASE_S = 120.0
"""Of every clip and video: loading of kernels, a disk that wakes up, a machine that swaps."""
CLIP_S_PER_MEGAPIXEL = 10.0
"""Of decoded and analyzed pixels. Mask R-CNN R50-FPN on one slow core takes 4 s for a frame of
0.9 megapixels; this is about twice as much."""
DECODE_S_PER_MEGAPIXEL = 1.0
"""Of frames that are only passed on the way to a clip: decoding takes some 10 ms for each."""
INDEX_S_PER_MEGABYTE = 1.0
"""Reading packets and hashing bytes: a disk that gives 1 MB/s is as good as stuck. Videos without
timestamps are decoded as well, at more than 1 MB/s."""


def clip_limit_s(config: EngineConfig, task: ShardTask) -> float:
    """Seconds after which a clip of `task` that has not come is taken to be stuck."""
    if config.clip_timeout != "auto":
        return float(config.clip_timeout)
    megapixels = task.index.width * task.index.height / 1e6
    frames = max(clip.stop - clip.start for clip in task.shard.clips)
    passed = int(task.sampled[-1] - task.sampled[0]) + 1
    return BASE_S + megapixels * (frames * CLIP_S_PER_MEGAPIXEL + passed * DECODE_S_PER_MEGAPIXEL)


def shard_limit_s(config: EngineConfig, task: ShardTask) -> float:
    """Seconds that a worker may spend on the whole of `task`: every clip may be slow, but not
    all of them as slow as one that is stuck."""
    if config.shard_timeout != "auto":
        return float(config.shard_timeout)
    megapixels = task.index.width * task.index.height / 1e6
    frames = sum(clip.stop - clip.start for clip in task.shard.clips)
    passed = int(task.sampled[-1] - task.sampled[0]) + 1
    return 2 * BASE_S + megapixels * (
        frames * CLIP_S_PER_MEGAPIXEL + passed * DECODE_S_PER_MEGAPIXEL
    )


def index_limit_s(config: EngineConfig, source: Source) -> float:
    """Seconds that reading the packets of `source` may take."""
    if config.index_timeout != "auto":
        return float(config.index_timeout)
    return BASE_S + INDEX_S_PER_MEGABYTE * source.size_bytes / 1e6
