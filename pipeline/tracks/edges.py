"""What is known of tracks where one shard of a video ends and the next begins.

A shard that is followed apart from the others begins with some sampled frames of the one before:

    shard k      ....................tttttttt|                its tail: the end of its own frames
    shard k + 1                      hhhhhhhh|..............  its head: before its own frames
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class EdgeTrack:
    """A track that is alive in the last of an edge's frames."""

    track_id: int
    class_id: int
    masks: dict[int, dict[str, Any]]
    """By frame_index, as pycocotools has them; frames in which it is lost are missing."""
    pointer: np.ndarray
    """float32 (hidden,): what the model keeps of the object in the last frame."""


@dataclass(frozen=True)
class Edge:
    """Some sampled frames, and the tracks in them."""

    frames: tuple[int, ...] = ()
    """Frame indices, ascending; those that could not be decoded are missing."""
    tracks: tuple[EdgeTrack, ...] = ()


@dataclass(frozen=True)
class Edges:
    """Both ends of a shard."""

    head: Edge
    tail: Edge


def save_edge(edge: Edge) -> tuple[dict[str, Any], bytes]:
    """Facts as JSON has them, and the rest in the format of safetensors, empty without tracks."""
    from safetensors.numpy import save

    sizes = {at: mask["size"] for one in edge.tracks for at, mask in one.masks.items()}
    facts = {
        "frames": list(edge.frames),
        "sizes": [sizes.get(frame) for frame in edge.frames],
        "tracks": [[one.track_id, one.class_id, list(one.masks)] for one in edge.tracks],
    }
    arrays = {}
    for one in edge.tracks:
        arrays[f"{one.track_id}"] = one.pointer
        for frame, mask in one.masks.items():
            arrays[f"{one.track_id}.{frame}"] = np.frombuffer(mask["counts"], np.uint8)
    return facts, save(arrays) if arrays else b""


def load_edge(facts: dict[str, Any], tensors: bytes) -> Edge:
    """What was saved."""
    from safetensors.numpy import load

    arrays = load(tensors) if tensors else {}
    sizes = dict(zip(facts["frames"], facts["sizes"], strict=True))

    def masks(track_id: int, frames: list[int]) -> dict[int, dict[str, Any]]:
        counts = {frame: arrays[f"{track_id}.{frame}"].tobytes() for frame in frames}
        return {at: {"size": sizes[at], "counts": one} for at, one in counts.items()}

    tracks = tuple(
        EdgeTrack(track_id, class_id, masks(track_id, frames), arrays[f"{track_id}"])
        for track_id, class_id, frames in facts["tracks"]
    )
    return Edge(tuple(facts["frames"]), tracks)
