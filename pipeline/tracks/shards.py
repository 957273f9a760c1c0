"""What goes to whatever makes tracks, and what comes back: a video opened once, then shard by
shard."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from pipeline.records import ShardTask, VideoIndex
from pipeline.tracks.edges import Edges
from pipeline.tracks.landed import ShardRows

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.tracks.prompts import Prompt


@dataclass(frozen=True)
class SavedState:
    """All that the frames behind a shard depend on."""

    facts: dict[str, Any]
    """As JSON has them."""
    tensors: bytes = b""
    """In the format of safetensors; empty where there are none."""


@dataclass(frozen=True)
class Opening:
    """A video whose tracks are to be made, from its beginning or behind a shard."""

    index: VideoIndex
    places: tuple[tuple[str, str], ...] = ()
    """(uri, stamp) where its bytes have been found, for a tracker that looks at pictures."""
    prompts: dict[int, tuple[Prompt, ...]] = field(default_factory=dict)
    """Prompts by hand, by frame_index."""
    names: dict[int, str] = field(default_factory=dict)
    """Names of the classes of prompts, by their ids."""
    saved: SavedState | None = None


@dataclass(frozen=True)
class ShardTracks:
    """The tracks of one shard."""

    rows: dict[str, pa.Array]
    """The columns of `tracks`, but for the ids that all rows share."""
    state: SavedState
    edges: Edges | None = None
    """Of a shard that was followed apart from the others: its ids are its own."""


class VideoFollower(Protocol):
    """Makes the tracks of videos, one at a time, each from its first shard that is due."""

    def follow(
        self, opening: Opening | None, task: ShardTask, rows: ShardRows, is_last: bool
    ) -> ShardTracks:
        """The tracks of a shard.

        Args:
            opening: with the first shard of a video that is given; None with those that follow.
                With each that is followed apart from the others.
            rows: what has landed of the shard. Frames that could not be decoded are passed over,
                and those that lead up to it are seen and have no rows.
            is_last: no other shard of the video follows, and no state is wanted.

        Raises VideoError where the video cannot be followed on.
        """
        ...


def follower_of(config: Config, device: str, threads: int) -> VideoFollower:
    """What makes the tracks of a configuration, its model loaded.

    Args:
        device: "cpu" or "cuda", for models.
        threads: of torch. On a CPU their number decides over the last bits of what it computes.

    Raises ConfigError where the model is damaged or does not fit the configuration.
    """
    assert config.tracker is not None
    if config.tracker.backend == "sam2":
        from pipeline.tracks.sam2_pass import Sam2Follower

        return Sam2Follower(config.tracker, config.decode, device, threads)
    from pipeline.tracks.light_pass import LightFollower

    return LightFollower(config.tracker)
