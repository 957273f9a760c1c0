"""Identities across the border of two shards that were followed apart.

What both have seen in the same frames (see `edges`) decides which tracks are one. They may be
where their masks overlap through these frames; of the ways to pair them the one is taken that
agrees most in masks and in what the model remembers of the objects, all tracks together
(Kuhn 1955, "The Hungarian method for the assignment problem").
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from pipeline.config_trackers import Sam2Config
from pipeline.tracks.edges import Edge, EdgeTrack


class Join(NamedTuple):
    """Two tracks that are one."""

    before: int
    """The track_id in the shard before."""
    behind: int
    """The track_id in the shard behind, as it numbers its own."""
    iou: float
    similarity: float


def join(before: Edge, behind: Edge, config: Sam2Config) -> list[Join]:
    """The tracks on both sides of a border that are one, by `behind`; each in one pair at most.

    Pairs of less than `match_iou`, or of two classes where those are kept to, are none.
    """
    from scipy.optimize import linear_sum_assignment

    shared = set(before.frames) & set(behind.frames)
    pairs: dict[tuple[int, int], Join] = {}
    agreement = np.zeros((len(before.tracks), len(behind.tracks)))
    for row, a in enumerate(before.tracks):
        for column, b in enumerate(behind.tracks):
            if config.class_aware and a.class_id != b.class_id:
                continue
            iou = tube_iou(a, b, shared)
            if iou < config.match_iou:
                continue
            likeness = similarity(a.pointer, b.pointer)
            pairs[row, column] = Join(a.track_id, b.track_id, iou, likeness)
            # Above 0, which is what a pair that is none counts.
            agreement[row, column] = iou + (1 + likeness) / 2
    rows, columns = linear_sum_assignment(agreement, maximize=True)
    chosen = zip(rows.tolist(), columns.tolist(), strict=True)
    found = [pairs[pair] for pair in chosen if pair in pairs]
    return sorted(found, key=lambda one: one.behind)


def tube_iou(a: EdgeTrack, b: EdgeTrack, frames: Collection[int]) -> float:
    """Of all pixels that either has in `frames`, the share that both have in the same frame.

    Source: Yang et al. 2019, "Video Instance Segmentation", equation 1. Frames in which the picture
    is of another size share nothing.
    """
    from pycocotools import mask as coco

    both = either = 0
    for frame in frames:
        one, other = a.masks.get(frame), b.masks.get(frame)
        areas = [int(coco.area(mask)) for mask in (one, other) if mask is not None]
        common = 0
        if one is not None and other is not None and one["size"] == other["size"]:
            common = int(coco.area(coco.merge([one, other], intersect=True)))
        both += common
        either += sum(areas) - common
    return both / either if either else 0.0


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """The cosine of the angle between two vectors; 0 where one has no length."""
    lengths = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float(np.clip(np.dot(a, b) / lengths, -1, 1)) if lengths else 0.0


def renumbered(
    numbers: Collection[int], joins: Collection[Join], last_id: int
) -> tuple[dict[int, int], int]:
    """The video's ids of a shard's tracks: that of the track each is one with, else new ones.

    Args:
        numbers: the shard's own.
        joins: with the shard before.
        last_id: the largest id that the video has.

    Returns the ids by the shard's own numbers, and the largest id now.
    """
    ids = {one.behind: one.before for one in joins}
    for number in sorted(set(numbers) - ids.keys()):
        last_id += 1
        ids[number] = last_id
    return ids, last_id
