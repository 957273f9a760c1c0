"""Scores of detection and of search against exact ground truth."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.demo.world import WorldObject

IGNORE_VISIBILITY = 0.4
"""Objects of which less can be seen are "difficult": finding one is neither right nor wrong."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Detection:
    """One box that a detector gave."""

    box: Box
    """x1, y1, x2, y2 in pixels."""
    score: float
    class_id: int


@dataclass(frozen=True)
class DetectionScore:
    """Mean average precision and what it is the mean of."""

    mean: float
    """Over the classes that occur in the ground truth; NaN where none does."""
    by_class: dict[int, float]
    """Average precision of each class that occurs."""
    truth_count: int
    """Objects that had to be found."""


def mean_average_precision(
    predictions: Mapping[Any, Sequence[Detection]],
    truths: Mapping[Any, Sequence[WorldObject]],
    iou: float = 0.5,
) -> DetectionScore:
    """Mean over classes of the area under the precision-recall curve.

    Both mappings have frames as keys, whatever identifies these; a frame without predictions may
    be absent from `predictions`, one without truth may not.

    By PASCAL VOC's rules (Everingham et al. 2010, "The PASCAL Visual Object Classes Challenge",
    IJCV 88; the devkit's VOCevaldet from 2010 on): predictions in order of score; each belongs to
    the object of its class that it overlaps most; it is right when that IoU is at least `iou` and
    no better prediction took the object, wrong otherwise, and does not count when the object is
    difficult (see IGNORE_VISIBILITY). Precision is made monotone and integrated over all points.
    """
    unknown = [key for key in predictions if key not in truths]
    if unknown:
        raise ValueError(f"predictions for frames without ground truth: {unknown[:5]}")
    by_class: dict[int, float] = {}
    truth_count = 0
    class_ids = {o.class_id for objects in truths.values() for o in objects if _counts(o)}
    for class_id in sorted(class_ids):
        wanted = {
            key: [o for o in objects if o.class_id == class_id] for key, objects in truths.items()
        }
        given = [
            (prediction.score, key, prediction.box)
            for key, found in predictions.items()
            for prediction in found
            if prediction.class_id == class_id
        ]
        given.sort(key=lambda item: -item[0])
        total = sum(_counts(o) for objects in wanted.values() for o in objects)
        truth_count += total
        hits = _hits([(key, box) for _, key, box in given], wanted, iou)
        by_class[class_id] = average_precision(hits, total)
    mean = float(np.mean(list(by_class.values()))) if by_class else float("nan")
    return DetectionScore(mean, by_class, truth_count)


def average_precision(hits: Sequence[bool], truth_count: int) -> float:
    """Area under the precision-recall curve, interpolated at all points.

    `hits` says of each prediction, best first, whether it is right; precision at a recall is the
    best precision at this recall or a higher one.
    """
    if truth_count == 0 or len(hits) == 0:
        return 0.0
    right = np.cumsum(np.asarray(hits, dtype=np.float64))
    recall = right / truth_count
    precision = right / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def intersection_over_union(box: Box, others: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """IoU of one xyxy box with each of (n, 4): float64 (n,)."""
    first = np.asarray(box, dtype=np.float64)
    rest = np.asarray(others, dtype=np.float64).reshape(-1, 4)
    sides = np.minimum(first[2:], rest[:, 2:]) - np.maximum(first[:2], rest[:, :2])
    common = np.clip(sides, 0, None).prod(axis=1)
    areas = (rest[:, 2:] - rest[:, :2]).prod(axis=1) + (first[2:] - first[:2]).prod()
    return np.asarray(common / np.maximum(areas - common, 1e-12), dtype=np.float64)


def precision_at_k(scores: npt.ArrayLike, relevant: npt.ArrayLike, k: int) -> float:
    """Share of relevant items among the `k` best; of equal scores the earlier item is first.

    `scores` float (n,), `relevant` bool (n,). With fewer than `k` items the missing ones count as
    irrelevant.
    """
    given = np.asarray(scores, dtype=np.float64)
    wanted = np.asarray(relevant, dtype=bool)
    if given.shape != wanted.shape or given.ndim != 1:
        raise ValueError(f"one score and one relevance an item: {given.shape}, {wanted.shape}")
    if k < 1:
        raise ValueError(f"k is at least 1: {k = }")
    return float(wanted[np.argsort(-given, kind="stable")[:k]].sum() / k)


def _counts(item: WorldObject) -> bool:
    return item.visibility >= IGNORE_VISIBILITY


def _hits(
    given: Sequence[tuple[Hashable, Box]],
    wanted: Mapping[Hashable, Sequence[WorldObject]],
    iou: float,
) -> list[bool]:
    """Right or wrong, for each prediction that counts; predictions come best first."""
    taken: set[tuple[Hashable, int]] = set()
    hits = []
    for key, box in given:
        objects = wanted[key]
        overlaps = intersection_over_union(box, [o.box for o in objects])
        best = int(overlaps.argmax()) if len(objects) else -1
        if best < 0 or overlaps[best] < iou:
            hits.append(False)
        elif _counts(objects[best]):
            hits.append((key, best) not in taken)
            taken.add((key, best))
    return hits
