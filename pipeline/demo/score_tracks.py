"""Scores of tracks against exact identities, by the evaluator of the package `trackers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.demo.score import IGNORE_VISIBILITY, Box
from pipeline.demo.world import WorldObject

_SAME_IOU = 0.5
"""From which a box is taken for that of an object, as MOTChallenge does."""


@dataclass(frozen=True)
class TrackRow:
    """A box of a track in one frame."""

    track_id: int
    box: Box
    """x1, y1, x2, y2 in pixels."""


@dataclass(frozen=True)
class TrackScore:
    """Of several videos together, 0 to 1."""

    hota: float
    """Higher order tracking accuracy (Luiten et al. 2021, IJCV 129): the geometric mean of how well
    objects are found and how well they keep their identity, over IoU from 0.05 to 0.95."""
    detection: float
    """HOTA's part that is of finding: DetA."""
    association: float
    """Its part that is of identity: AssA."""
    idf1: float
    """Share of boxes in the identity that fits each object best (Ristani et al. 2016)."""


@dataclass
class _Sequence:
    """What the evaluator takes: one entry a frame."""

    truth: list[npt.NDArray[np.int64]]
    tracks: list[npt.NDArray[np.int64]]
    overlaps: list[npt.NDArray[np.float64]]


def score_tracks(
    videos: Sequence[tuple[Sequence[Sequence[WorldObject]], Mapping[int, Sequence[TrackRow]]]],
) -> TrackScore:
    """Score tracks of several videos.

    An object of which less than `IGNORE_VISIBILITY` can be seen is neither missed nor found: where
    a track's box is its box, neither counts, as MOTChallenge treats its distractors (Dendorfer et
    al. 2020, arXiv:2003.09003, section 4.1.3).

    Args:
        videos: of each the objects of every frame, and the boxes of tracks by frame.
    """
    from trackers.eval import (
        aggregate_hota_metrics,
        aggregate_identity_metrics,
        compute_hota_metrics,
        compute_identity_metrics,
    )

    given = [_sequence(objects, rows) for objects, rows in videos]
    hota = aggregate_hota_metrics(
        [compute_hota_metrics(one.truth, one.tracks, one.overlaps) for one in given]
    )
    identity = aggregate_identity_metrics(
        [compute_identity_metrics(one.truth, one.tracks, one.overlaps) for one in given]
    )
    return TrackScore(
        hota=float(hota["HOTA"]),
        detection=float(hota["DetA"]),
        association=float(hota["AssA"]),
        idf1=float(identity["IDF1"]),
    )


def _sequence(
    frames: Sequence[Sequence[WorldObject]], rows: Mapping[int, Sequence[TrackRow]]
) -> _Sequence:
    from scipy.optimize import linear_sum_assignment

    from pipeline.demo.score import intersection_over_union

    found = _Sequence([], [], [])
    for frame, objects in enumerate(frames):
        tracks = rows.get(frame, ())
        boxes = [one.box for one in tracks]
        overlaps = np.array(
            [intersection_over_union(one.box, boxes) for one in objects], np.float64
        ).reshape(len(objects), len(tracks))
        counts = np.array([one.visibility >= IGNORE_VISIBILITY for one in objects], bool)
        kept = np.ones(len(tracks), bool)
        near = np.where(overlaps >= _SAME_IOU, overlaps, 0.0)
        for row, column in zip(*linear_sum_assignment(near, maximize=True), strict=True):
            if near[row, column] > 0 and not counts[row]:
                kept[column] = False
        ids = np.array([one.object_id for one in objects], np.int64)
        track_ids = np.array([one.track_id for one in tracks], np.int64)
        found.truth.append(ids[counts])
        found.tracks.append(track_ids[kept])
        found.overlaps.append(overlaps[counts][:, kept])
    return found
