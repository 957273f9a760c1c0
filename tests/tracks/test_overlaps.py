"""Which boxes are used, and IoU as the package has it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tracks.overlaps import Overlap, in_lanes, usable

SIDE = st.one_of(st.integers(0, 12), st.floats(-50, 2000, width=32))


def boxes_of(most: int = 6):
    return st.lists(st.tuples(SIDE, SIDE, SIDE, SIDE), max_size=most).map(
        lambda rows: np.array(rows, np.float64).reshape(-1, 4)
    )


@given(one=boxes_of(), other=boxes_of())
def test_iou_is_that_of_the_package_to_the_bit(one, other):
    """Of boxes without an area, too."""
    trackers = pytest.importorskip("trackers")
    found, wanted = Overlap().compute(one, other), trackers.IoU().compute(one, other)
    assert found.shape == wanted.shape
    assert np.array_equal(found, wanted)
    if found.size:
        assert found.dtype == wanted.dtype


@given(one=boxes_of(), other=boxes_of(), lanes=st.lists(st.integers(0, 999), min_size=12))
def test_boxes_of_two_lanes_never_overlap(one, other, lanes):
    rows, columns = np.array(lanes[: len(one)]), np.array(lanes[6:][: len(other)])
    found = Overlap().compute(in_lanes(one, rows), in_lanes(other, columns))
    same = rows[:, None] == columns
    assert (found[~same] == -1e4).all()
    # Sides of less than a millionth of a pixel are lost in the thousandth lane.
    for box, column in ((one, rows), (other, columns)):
        assert np.abs(in_lanes(box, column) - in_lanes(box * 0, column) - box).max(initial=0) < 1e-6
    assert (found[same] >= 0).all()


def test_a_box_that_is_not_finite_is_an_error():
    with pytest.raises(ValueError, match="not finite"):
        Overlap().compute(np.array([[0.0, 0, 1, np.nan]]), np.ones((1, 4)))


def plain(xyxy, scores, groups, most_iou):
    """Greedy suppression, box by box."""
    kept: list[int] = []
    for at in sorted(range(len(xyxy)), key=lambda at: (-scores[at], at)):
        x1, y1, x2, y2 = xyxy[at]
        if not (np.isfinite(xyxy[at]).all() and x2 > x1 and y2 > y1):
            continue
        for other in kept:
            u1, v1, u2, v2 = xyxy[other]
            common = max(0.0, min(x2, u2) - max(x1, u1)) * max(0.0, min(y2, v2) - max(y1, v1))
            union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - common
            if groups[at] == groups[other] and common > most_iou * union:
                break
        else:
            kept.append(at)
    return sorted(kept)


@given(
    xyxy=boxes_of(10),
    scores=st.lists(st.sampled_from([0.2, 0.5, 0.5, 0.9]), min_size=10, max_size=10),
    groups=st.lists(st.integers(0, 2), min_size=10, max_size=10),
    most_iou=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    broken=st.integers(0, 40),
)
def test_what_is_left_is_what_greedy_suppression_leaves(xyxy, scores, groups, most_iou, broken):
    if broken < xyxy.size:
        xyxy.flat[broken] = np.nan
    count = len(xyxy)
    of_boxes = np.array(scores[:count]), np.array(groups[:count], np.int64)
    assert usable(xyxy, *of_boxes, most_iou).tolist() == plain(xyxy, *of_boxes, most_iou)


def test_duplicates_are_of_one_group_only():
    xyxy = np.array([[50, 100, 110, 160], [53, 100, 113, 160], [50, 100, 110, 160.0]])
    scores, groups = np.array([0.9, 0.8, 0.85]), np.array([0, 0, 1])
    assert usable(xyxy, scores, groups, 0.7).tolist() == [0, 2]
    assert usable(xyxy, scores, groups, 1.0).tolist() == [0, 1, 2]
    assert usable(xyxy, scores, np.zeros(3, np.int64), 0.7).tolist() == [0]
