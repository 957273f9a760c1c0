"""The decisions against cases worked out by hand.

The rules and constants are those of the published code (github.com/yangchris11/samurai,
`sam2/utils/kalman_filter.py`, and `_forward_sam_heads` and `_prepare_memory_conditioned_features`
of `sam2/modeling/sam2_base.py`; arXiv:2411.11922, sections 3.1 and 3.2).
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.config_trackers import Sam2Config
from pipeline.tracks.samurai import Motion, Seen, box_iou, choose, follow, may_remember, remembered

CONFIG = Sam2Config(backend="sam2", model="none")
BOX = (10.0, 20.0, 30.0, 60.0)
"""Centre (20, 40), aspect 0.5, height 40: standard deviations of 2 (height / 20) and 0.25
(height / 160)."""


def steady(stable: int, box: tuple[float, float, float, float] = BOX) -> Motion:
    motion = Motion()
    motion.begin(box)
    motion.stable = stable
    return motion


def test_the_published_defaults() -> None:
    assert (CONFIG.kf_score_weight, CONFIG.stable_frames, CONFIG.stable_iou) == (0.25, 15, 0.3)
    assert (CONFIG.memory_iou, CONFIG.memory_object_score, CONFIG.memory_kf_score) == (0.5, 0, 0)
    assert CONFIG.min_object_score == -1


def test_a_filter_begins_at_rest() -> None:
    motion = steady(1)
    assert motion.mean is not None
    assert motion.mean.tolist() == [20, 40, 0.5, 40, 0, 0, 0, 0]
    # Twice the position's 2, ten times the velocity's 0.25, squared.
    wanted = [16, 16, 1e-4, 16, 6.25, 6.25, 1e-10, 6.25]
    assert np.diag(motion.covariance) == pytest.approx(wanted, rel=1e-12)
    assert np.count_nonzero(motion.covariance) == 8
    assert motion.box == BOX


def test_a_step_adds_velocity_and_noise() -> None:
    motion = steady(1)
    assert motion.mean is not None
    motion.mean[4] = 3.0
    motion.predict()
    assert motion.mean.tolist() == [23, 40, 0.5, 40, 3, 0, 0, 0]
    # x: 16 + 6.25 (of the velocity) + 4 (noise: 2 squared); its velocity: 6.25 + 0.0625.
    assert motion.covariance[0, 0] == pytest.approx(26.25)
    assert motion.covariance[4, 4] == pytest.approx(6.3125)
    assert motion.covariance[0, 4] == pytest.approx(6.25)
    assert motion.covariance[2, 2] == pytest.approx(2e-4 + 1e-10)


def test_what_is_seen_corrects_by_the_kalman_gain() -> None:
    motion = steady(1)
    motion.predict()
    motion.update((15.0, 20.0, 35.0, 60.0))  # five to the right
    assert motion.mean is not None
    # Innovation's variance 26.25 + 4; gain of x 26.25 / 30.25, of its velocity 6.25 / 30.25.
    assert motion.mean[0] == pytest.approx(20 + 5 * 26.25 / 30.25)
    assert motion.mean[4] == pytest.approx(5 * 6.25 / 30.25)
    assert motion.mean[[1, 2, 3]].tolist() == [40, 0.5, 40]
    assert motion.covariance[0, 0] == pytest.approx(26.25 - 26.25**2 / 30.25)
    assert motion.covariance[4, 4] == pytest.approx(6.3125 - 6.25**2 / 30.25)


def test_the_aspect_is_measured_less_exactly_than_it_moves() -> None:
    motion = steady(1)
    motion.predict()
    motion.update((5.0, 20.0, 35.0, 60.0))  # aspect 0.75
    assert motion.mean is not None
    variance = 2e-4 + 1e-10
    assert motion.mean[2] == pytest.approx(0.5 + 0.25 * variance / (variance + 1e-2))


def test_a_mask_of_one_row_has_height_1() -> None:
    motion = steady(1, (10.0, 5.0, 14.0, 5.0))
    assert motion.mean is not None
    assert motion.mean[:4].tolist() == [12, 5, 4, 1]


def test_at_first_the_best_score_is_taken_and_the_filter_begins() -> None:
    motion = Motion()
    assert choose(motion, [0.2, 0.1, 0.15], [BOX, None, (0, 0, 9, 9)], CONFIG) == (0, None)
    # Whatever the score is: 0.2 is below 0.3.
    assert (motion.stable, motion.box) == (1, BOX)


def test_after_a_bad_frame_the_filter_begins_again() -> None:
    motion = steady(0)
    choose(motion, [0.9], [(50.0, 50.0, 70.0, 90.0)], CONFIG)
    assert motion.stable == 1
    assert motion.box == (50.0, 50.0, 70.0, 90.0)
    assert motion.mean is not None
    assert not motion.mean[4:].any()


def test_until_it_is_stable_the_best_score_is_taken() -> None:
    motion = steady(14)
    far = (100.0, 20.0, 120.0, 60.0)
    # The mask that is where the filter expects it has the lower score by a hair.
    assert choose(motion, [0.50, 0.51], [BOX, far], CONFIG) == (1, None)
    assert motion.stable == 15
    assert motion.mean is not None
    assert motion.mean[0] > 20


@pytest.mark.parametrize(("iou", "stable"), [(0.31, 6), (0.3, 0), (0.1, 0)])
def test_a_good_frame_counts_and_a_bad_one_resets(iou: float, stable: int) -> None:
    motion = steady(5)
    expected = steady(5)
    expected.predict()
    choose(motion, [iou], [(15.0, 20.0, 35.0, 60.0)], CONFIG)
    assert motion.stable == stable
    # A bad frame's box is not learnt.
    assert motion.mean is not None
    assert expected.mean is not None
    assert (motion.mean[0] == expected.mean[0]) == (stable == 0)


@pytest.mark.parametrize(
    ("ious", "weight", "best"),
    [
        # By hand: the one where it is expected 0.25 * 1 + 0.75 * 0.6 = 0.70,
        # the other 0.25 * 0 + 0.75 * 0.9 = 0.675.
        ([0.6, 0.9], 0.25, 0),
        # 0.75 * 0.55 + 0.25 = 0.6625, below 0.675.
        ([0.55, 0.9], 0.25, 1),
        # With 0.15: 0.15 + 0.85 * 0.6 = 0.66, below 0.765.
        ([0.6, 0.9], 0.15, 1),
    ],
)
def test_once_it_is_stable_motion_has_a_say(ious: list[float], weight: float, best: int) -> None:
    config = CONFIG.model_copy(update={"kf_score_weight": weight})
    far = (100.0, 20.0, 120.0, 60.0)
    assert choose(steady(15), ious, [BOX, far], config) == (best, [1.0, 0.0][best])


@pytest.mark.parametrize(("iou", "stable"), [(0.3, 15), (0.29, 0)])
def test_a_bad_frame_ends_what_was_stable(iou: float, stable: int) -> None:
    motion = steady(15)
    choose(motion, [iou], [(12.0, 20.0, 32.0, 60.0)], CONFIG)
    assert motion.stable == stable


def test_an_empty_mask_begins_no_filter() -> None:
    motion = Motion()
    assert choose(motion, [0.9, 0.1], [None, BOX], CONFIG) == (0, None)
    assert (motion.mean, motion.stable, motion.box) == (None, 0, None)


@pytest.mark.parametrize("stable", [1, 14, 15])
def test_an_empty_mask_updates_no_filter(stable: int) -> None:
    motion, expected = steady(stable), steady(stable)
    for _ in range(3):
        choose(motion, [0.9, 0.8], [None, None], CONFIG)
        expected.predict()
        assert motion.stable == 0
        assert motion.mean is not None
        assert motion.mean.tolist() == expected.mean.tolist()  # type: ignore[union-attr]
        assert motion.covariance.tolist() == expected.covariance.tolist()


def test_without_a_say_the_filter_follows() -> None:
    motion, expected = Motion(), Motion()
    follow(motion, None)
    assert motion.box is None
    follow(motion, BOX)
    expected.begin(BOX)
    expected.predict()
    follow(motion, None)
    assert motion.save() == expected.save()
    follow(motion, (15.0, 20.0, 35.0, 60.0))
    expected.predict()
    expected.update((15.0, 20.0, 35.0, 60.0))
    assert motion.save() == expected.save()


def test_a_filter_survives_json_to_the_bit() -> None:
    motion = steady(3)
    motion.predict()
    motion.update((12.3, 20.1, 33.3, 61.7))
    again = Motion.restore(json.loads(json.dumps(motion.save())))
    motion.predict()
    again.predict()
    assert again.save() == motion.save()


@pytest.mark.parametrize(
    ("seen", "good"),
    [
        (Seen(0.51, 0.1, None), True),
        (Seen(0.5, 0.1, None), False),
        (Seen(0.51, 0.0, None), False),
        (Seen(0.51, 0.1, 0.01), True),
        (Seen(0.51, 0.1, 0.0), False),
    ],
)
def test_the_gate_of_the_memory(seen: Seen, good: bool) -> None:
    assert may_remember(seen, CONFIG) is good


GOOD, BAD = Seen(0.9, 5.0, 0.9), Seen(0.2, 5.0, 0.9)


@pytest.mark.parametrize(
    ("bad", "wanted"),
    [
        ((), [19, 18, 17, 16, 15, 14]),
        ((18, 16), [19, 17, 15, 14, 13, 12]),
        # The one before is remembered whatever it is like, and takes a place.
        ((19, 18), [19, 17, 16, 15, 14, 13]),
        (tuple(range(5, 20)), [19, 4, 3, 2, 1, 0]),
        (tuple(range(20)), [19]),
    ],
)
def test_the_newest_good_frames_are_remembered(bad: tuple[int, ...], wanted: list[int]) -> None:
    seen = {at: BAD if at in bad else GOOD for at in range(20)}
    assert remembered(seen, 20, 6, CONFIG) == wanted


def test_frames_that_are_missing_are_passed_over() -> None:
    assert remembered({}, 7, 6, CONFIG) == []
    assert remembered({2: BAD, 3: GOOD, 5: BAD}, 7, 6, CONFIG) == [3]


@pytest.mark.parametrize(
    ("other", "iou"),
    [
        (BOX, 1.0),
        ((20.0, 20.0, 40.0, 60.0), 1 / 3),
        ((30.0, 20.0, 50.0, 60.0), 0.0),
        ((10.0, 20.0, 20.0, 60.0), 0.5),
        (None, 0.0),
    ],
)
def test_overlap(other: tuple[float, float, float, float] | None, iou: float) -> None:
    assert box_iou(BOX, other) == pytest.approx(iou)
    assert box_iou(other, BOX) == pytest.approx(iou)


def test_boxes_without_an_area_do_not_overlap() -> None:
    assert box_iou((5.0, 5.0, 5.0, 5.0), (5.0, 5.0, 5.0, 5.0)) == 0
