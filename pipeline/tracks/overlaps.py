"""How much boxes overlap: which of a frame are used, and how like those predicted they are."""

from __future__ import annotations

import numpy as np

LANE_WIDTH = 2.0**22
"""Pixels between two lanes: boxes of classes that are matched in one go lie beside each other, as
in torchvision's `batched_nms`, farther apart than a track's prediction ever leads. In the
thousandth lane a float64 still tells places 1e-6 pixels apart."""

_APART = -1e4
"""In place of the IoU of boxes of two classes: no sum of all that an assignment may gain elsewhere
makes up for it, so each class is matched as if it were alone."""


def usable(xyxy: np.ndarray, scores: np.ndarray, groups: np.ndarray, most_iou: float) -> np.ndarray:
    """Places of the boxes that have an area and overlap no better one of their group by more than
    `most_iou`, ascending.

    Greedy non-maximum suppression; of equal scores the earlier box is the better one.

    Args:
        xyxy: float64 (n, 4).
        scores: float64 (n,).
        groups: int64 (n,), such as classes.
    """
    # A filter of scale and aspect divides by the height.
    whole = np.isfinite(xyxy).all(axis=1) & (xyxy[:, 2:] > xyxy[:, :2]).all(axis=1)
    at = np.flatnonzero(whole)
    if len(at) < 2:
        return at
    xyxy, scores, groups = xyxy[at], scores[at], groups[at]
    common, union = _shared(xyxy, xyxy)
    same = (common > most_iou * union) & (groups[:, None] == groups)
    # Most frames have no duplicates; each box is one of its own.
    if np.count_nonzero(same) == np.count_nonzero(same.diagonal()):
        return at
    kept: list[int] = []
    for one in np.argsort(-scores, kind="stable").tolist():
        if not same[one, kept].any():
            kept.append(one)
    return at[np.sort(np.array(kept, np.int64))]


def in_lanes(xyxy: np.ndarray, lanes: np.ndarray) -> np.ndarray:
    """Boxes of several classes beside each other.

    Args:
        xyxy: float64 (n, 4).
        lanes: int64 (n,): from 0, a number for each class.
    """
    return xyxy + np.outer(lanes * LANE_WIDTH, (1.0, 0.0, 1.0, 0.0))


class Overlap:
    """IoU as the package `trackers` asks for it (`trackers.BaseIoU`), with the values of its own to
    the bit (a test holds them against each other) in six tenths of the time, of boxes in one lane;
    those of two are kept apart."""

    def compute(self, boxes_1: np.ndarray, boxes_2: np.ndarray) -> np.ndarray:
        """float32 (n, m): IoU of all pairs, 0 where both have no area, -1e4 in different lanes.

        Args:
            boxes_1: float64 (n, 4), xyxy.
            boxes_2: float64 (m, 4), xyxy.

        Raises ValueError where a box is not finite.
        """
        if not (len(boxes_1) and len(boxes_2)):
            return np.zeros((len(boxes_1), len(boxes_2)), np.float32)
        if not (np.isfinite(boxes_1).all() and np.isfinite(boxes_2).all()):
            raise ValueError("boxes are not finite")
        common, union = _shared(boxes_1, boxes_2)
        found = np.zeros(union.shape, np.float32)
        np.divide(common, union, out=found, where=union > 0)
        one, other = _lanes(boxes_1), _lanes(boxes_2)
        found[one[:, None] != other] = _APART
        return found


def _shared(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas that pairs of boxes have in common, and of their unions: float64 (n, m) each."""
    low = np.maximum(one[:, None, :2], other[:, :2])
    high = np.minimum(one[:, None, 2:], other[:, 2:])
    sides = np.maximum(high - low, 0.0)
    common = sides[..., 0] * sides[..., 1]
    return common, _areas(one)[:, None] + _areas(other) - common


def _lanes(xyxy: np.ndarray) -> np.ndarray:
    """float64 (n,)"""
    lanes: np.ndarray = np.rint(xyxy[:, 0] / LANE_WIDTH)
    return lanes


def _areas(xyxy: np.ndarray) -> np.ndarray:
    sides = xyxy[:, 2:] - xyxy[:, :2]
    areas: np.ndarray = sides[:, 0] * sides[:, 1]
    return areas
