"""Which detections go with tracks, and which begin them."""

from __future__ import annotations

import json
from typing import Any

from pipeline.config_trackers import Sam2Config
from pipeline.tracks.births import Births, Covered, matched, usable_places
from tests.tracks.sam2_made import boxes_of


def config(**given: Any) -> Sam2Config:
    return Sam2Config(backend="sam2", model="none", **given)


HERE = (10.0, 10.0, 30.0, 30.0)
NEAR = (12.0, 10.0, 32.0, 30.0)
FAR = (60.0, 10.0, 80.0, 30.0)


def test_second_boxes_of_an_object_are_left_out() -> None:
    found = boxes_of((*HERE, 0.8, 0), (*NEAR, 0.9, 0), (*HERE, 0.7, 1), (*FAR, 0.6, 0))
    assert usable_places(found, config()) == [1, 2, 3]
    assert usable_places(found, config(class_aware=False)) == [1, 3]
    assert usable_places(found, config(duplicate_iou=1.0)) == [0, 1, 2, 3]


def test_boxes_without_an_area_are_left_out() -> None:
    nan = float("nan")
    found = boxes_of((5, 5, 5, 9, 0.9, 0), (0, 0, nan, 4, 0.9, 0), (*HERE, 0.1, 0))
    assert usable_places(found, config()) == [2]


def test_pairs_that_overlap_best_go_first() -> None:
    tracks = [Covered(NEAR, 0), Covered(HERE, 0), Covered(FAR, 0)]
    found = boxes_of((*HERE, 0.9, 0), (14.0, 10.0, 34.0, 30.0, 0.9, 0))
    # The second track has the first box to itself; the first, which overlaps it too, the other.
    assert matched(tracks, found, [0, 1], config()) == {1: 0, 0: 1}
    assert matched(tracks, found, [1], config()) == {0: 1}
    assert matched(tracks, boxes_of(), [], config()) == {}


def test_classes_are_kept_apart() -> None:
    found = boxes_of((*HERE, 0.9, 1))
    assert matched([Covered(HERE, 0)], found, [0], config()) == {}
    assert matched([Covered(HERE, 0)], found, [0], config(class_aware=False)) == {0: 0}


def test_the_least_overlap_counts() -> None:
    # 10 of 30 columns are common: a third.
    found = boxes_of((20.0, 10.0, 40.0, 30.0, 0.9, 0))
    assert matched([Covered(HERE, 0)], found, [0], config(match_iou=0.33)) == {0: 0}
    assert matched([Covered(HERE, 0)], found, [0], config(match_iou=0.34)) == {}


def test_a_detection_has_to_persist() -> None:
    births = Births(config(new_frames=3))
    found = boxes_of((*HERE, 0.9, 0))
    assert [births.step(found, [0]) for _ in range(4)] == [[], [], [0], []]


def test_a_gap_begins_the_count_anew() -> None:
    births = Births(config(new_frames=2))
    here, far, other = (
        boxes_of((*HERE, 0.9, 0)),
        boxes_of((*FAR, 0.9, 0)),
        boxes_of((*HERE, 0.9, 1)),
    )
    for between in (boxes_of(), far, other, boxes_of((*HERE, 0.6, 0))):
        births.clear()
        assert births.step(here, [0]) == []
        assert births.step(between, list(range(len(between.scores)))) == []
        assert births.step(here, [0]) == []
        assert births.step(boxes_of((*NEAR, 0.9, 0)), [0]) == [0]


def test_the_best_score_goes_first() -> None:
    births = Births(config(new_frames=1))
    found = boxes_of((*HERE, 0.8, 0), (*FAR, 0.9, 0), (*HERE, 0.8, 1), (*FAR, 0.69, 1))
    assert births.step(found, [0, 1, 2, 3]) == [1, 0, 2]


def test_what_waits_survives_json() -> None:
    births, again = Births(config(new_frames=2)), Births(config(new_frames=2))
    births.step(boxes_of((10.1, 10.2, 30.3, 30.4, 0.9, 3)), [0])
    again.restore(json.loads(json.dumps(births.save())))
    assert again.save() == births.save()
    assert again.step(boxes_of((*HERE, 0.9, 3)), [0]) == [0]
