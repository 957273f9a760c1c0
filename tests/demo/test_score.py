import numpy as np
import pytest

from pipeline.demo.score import (
    IGNORE_VISIBILITY,
    Box,
    Detection,
    average_precision,
    intersection_over_union,
    mean_average_precision,
    precision_at_k,
)
from pipeline.demo.world import CLASSES, WorldObject

BOX = (0.0, 0.0, 10.0, 10.0)
AWAY = (50.0, 50.0, 60.0, 60.0)


def truth(box: Box, class_id: int = 0, visibility: float = 1.0) -> WorldObject:
    return WorldObject(0, class_id, CLASSES[class_id], box, visibility)


def found(box: Box, score: float, class_id: int = 0) -> Detection:
    return Detection(box, score, class_id)


def test_iou() -> None:
    others = [BOX, (5, 0, 15, 10), AWAY]
    assert intersection_over_union(BOX, others) == pytest.approx([1, 50 / 150, 0])
    assert intersection_over_union(BOX, []).shape == (0,)


def test_average_precision_by_hand() -> None:
    # Three objects. right, wrong, right, and one never found: precision 1, 1/2, 2/3 at recall
    # 1/3, 1/3, 2/3; the envelope is 1 up to 1/3 and 2/3 up to 2/3.
    assert average_precision([True, False, True], 3) == pytest.approx(1 / 3 + 2 / 3 / 3)
    assert average_precision([False, True], 1) == pytest.approx(0.5)
    assert average_precision([True, True], 2) == 1
    assert average_precision([], 2) == 0


def test_a_second_box_on_an_object_is_wrong() -> None:
    twice = [found(BOX, 0.9), found((0, 0, 10, 9), 0.8)]
    score = mean_average_precision({1: twice, 2: [found(BOX, 0.7)]}, {1: [truth(BOX)], 2: []})
    assert score.mean == 1  # both mistakes come after all is found
    score = mean_average_precision(
        {1: twice, 2: [found(BOX, 0.7)]}, {i: [truth(BOX)] for i in (1, 2)}
    )
    assert score.mean == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_the_overlap_has_to_reach_the_threshold() -> None:
    half = (0.0, 0.0, 10.0, 5.0)
    assert mean_average_precision({1: [found(half, 1)]}, {1: [truth(BOX)]}).mean == 1
    assert mean_average_precision({1: [found(half, 1)]}, {1: [truth(BOX)]}, iou=0.51).mean == 0


def test_classes_are_apart_and_the_mean_is_over_those_in_the_truth() -> None:
    truths = {1: [truth(BOX, 0), truth(AWAY, 1)]}
    score = mean_average_precision({1: [found(BOX, 0.9, 0), found(AWAY, 0.8, 2)]}, truths)
    assert score.by_class == {0: 1.0, 1: 0.0}
    assert score.mean == 0.5
    assert score.truth_count == 2


def test_difficult_objects_are_neither_right_nor_wrong() -> None:
    hidden = truth(AWAY, visibility=IGNORE_VISIBILITY - 0.01)
    truths = {1: [truth(BOX), hidden]}
    both = [found(AWAY, 0.9), found(AWAY, 0.85), found(BOX, 0.8)]
    assert mean_average_precision({1: both}, truths).mean == 1
    assert mean_average_precision({1: [found(BOX, 0.8)]}, truths).mean == 1
    assert mean_average_precision({1: both[:2]}, truths).mean == 0
    assert np.isnan(mean_average_precision({}, {1: [hidden]}).mean)


def test_frames_are_apart() -> None:
    truths = {("a", 0): [truth(BOX)], ("a", 1): []}
    assert mean_average_precision({("a", 1): [found(BOX, 1)]}, truths).mean == 0
    with pytest.raises(ValueError, match="without ground truth"):
        mean_average_precision({("b", 0): []}, truths)


def test_precision_at_k() -> None:
    scores, relevant = [0.1, 0.9, 0.5, 0.7], [True, True, False, False]
    assert precision_at_k(scores, relevant, 1) == 1
    assert precision_at_k(scores, relevant, 2) == 0.5
    assert precision_at_k(scores, relevant, 4) == 0.5
    assert precision_at_k(scores, relevant, 10) == 0.2
    assert precision_at_k([1, 1, 1], [True, False, False], 1) == 1  # ties: the earlier first
    with pytest.raises(ValueError, match="k is at least 1"):
        precision_at_k(scores, relevant, 0)
    with pytest.raises(ValueError, match="one relevance an item"):
        precision_at_k(scores, relevant[:2], 1)
