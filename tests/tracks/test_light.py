"""The tracker around the package: ids, seconds, classes, borders."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.config_trackers import ByteTrackConfig, OCSortConfig
from pipeline.tracks.light import Boxes, LightTracker, TrackBox
from pipeline.tracks.state import pack, unpack
from tests.tracks.made import HEIGHT, WIDTH, boxes, crowd

SIZE = (WIDTH, HEIGHT)
BACKENDS = ("bytetrack", "ocsort")


def make(backend: str = "bytetrack", rate: float = 30.0, **settings: object) -> LightTracker:
    kind = ByteTrackConfig if backend == "bytetrack" else OCSortConfig
    return LightTracker(kind(backend=backend, **settings), rate)  # type: ignore[arg-type]


def moving(x: float, score: float = 0.9, class_id: int = 0, side: float = 60.0):
    return (x, 100.0, x + side, 160.0, score, class_id)


def ids(found: list[TrackBox]) -> list[int]:
    return [one.track_id for one in found]


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10**6),
    backend=st.sampled_from(BACKENDS),
    aware=st.booleans(),
    min_frames=st.integers(1, 3),
    border=st.integers(1, 39),
    steps=st.lists(st.sampled_from([1, 1, 1, 2, 5, 0.5]), min_size=40, max_size=40),
)
def test_a_tracker_that_was_saved_goes_on_to_the_bit(
    seed, backend, aware, min_frames, border, steps
):
    scene, times = crowd(seed, objects=8, miss=0.3), np.cumsum(steps) / 30
    options = {"class_aware": aware, "min_frames": min_frames, "lost_seconds": 0.5}
    whole, first = make(backend, **options), make(backend, **options)
    again = None
    for frame, time_s in enumerate(times.tolist()):
        if frame == border:
            saved = unpack(pack(first.save()))
            again = LightTracker(first._config, 30.0, saved)
            # What was read back is what was written, whatever comes.
            assert pack(again.save()) == pack(first.save())
        given_boxes = scene(frame, time_s)
        wanted = whole.step(time_s, SIZE, given_boxes)
        assert (again or first).step(time_s, SIZE, given_boxes) == wanted


@pytest.mark.parametrize("backend", BACKENDS)
def test_ids_count_from_one_in_order_of_appearance(backend):
    tracker = make(backend)
    found = [
        tracker.step(frame / 30, SIZE, boxes(moving(10 + frame), *late))
        for frame, late in enumerate([[]] * 5 + [[moving(300)], [moving(301), moving(480, 0.95)]])
    ]
    assert [ids(one) for one in found] == [[1]] * 5 + [[1, 2], [1, 2, 3]]
    assert [one.detection for one in found[-1]] == [0, 1, 2]


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_box_of_a_frame_is_in_one_track_at_most(backend):
    tracker, scene = make(backend), crowd(11, objects=12)
    for frame in range(120):
        given_boxes = scene(frame, frame / 30)
        found = tracker.step(frame / 30, SIZE, given_boxes)
        assert len(set(ids(found))) == len(found)
        taken = [one.detection for one in found if one.detection is not None]
        assert len(set(taken)) == len(taken)
        for one in found:
            if one.detection is not None:
                assert one.box == tuple(given_boxes.xyxy[one.detection])
                assert one.class_id == given_boxes.class_ids[one.detection]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rate", [5.0, 30.0, 120.0])
def test_a_track_is_lost_for_seconds_and_not_for_rows(backend, rate):
    """Half a second after its last box it is still there; a second after it has ended."""
    for gap_s, same in ((0.4, True), (1.4, False)):
        tracker = make(backend, rate, lost_seconds=1.0)
        time_s = 0.0
        for _ in range(10):
            time_s += 1 / rate
            assert ids(tracker.step(time_s, SIZE, boxes(moving(50)))) == [1]
        until, lost = time_s + gap_s, []
        while time_s < until:
            time_s += 1 / rate
            lost += tracker.step(time_s, SIZE, boxes())
        assert all(one.detection is None for one in lost)
        assert len(lost) == pytest.approx(min(gap_s, 1.0) * rate, abs=1.5)
        time_s += 1 / rate
        (one,) = tracker.step(time_s, SIZE, boxes(moving(50)))
        assert (one.track_id == 1) is same


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_motion_is_predicted_by_elapsed_time(backend, stride):
    """What moves 3 pixels a frame is where it should be after a gap, whatever the stride."""
    tracker = make(backend)
    for frame in range(0, 60, stride):
        tracker.step(frame / 30, SIZE, boxes(moving(20 + 3.0 * frame)))
    (lost,) = tracker.step(68 / 30, SIZE, boxes())
    assert lost.detection is None
    assert lost.box[0] == pytest.approx(20 + 3.0 * 68, abs=6)


def test_an_uneven_rate_is_followed_where_rows_would_mislead():
    times = np.cumsum([1, 1, 6, 1, 1, 6, 1, 6, 1, 1, 1, 6, 6, 1, 1, 6] * 3) / 30
    by_time, by_rows = make(), make()
    off = {"time": [], "rows": []}
    for row, time_s in enumerate(times.tolist()):
        x = 10 + 60 * time_s
        for name, tracker, shown in (("time", by_time, time_s), ("rows", by_rows, row / 30)):
            seen = boxes() if row % 8 == 7 else boxes(moving(x))
            for one in tracker.step(shown, SIZE, seen):
                if one.detection is None and row > 10:
                    off[name].append(abs(one.box[0] - x))
    assert max(off["time"]) < 1.5
    assert max(off["rows"]) > 5


@pytest.mark.parametrize("backend", BACKENDS)
def test_classes_are_kept_apart_or_not_by_choice(backend):
    for aware, expected in ((True, [1, 2]), (False, [1])):
        tracker = make(backend, class_aware=aware)
        for frame in range(5):
            tracker.step(frame / 30, SIZE, boxes(moving(50)))
        found = tracker.step(5 / 30, SIZE, boxes(moving(50, class_id=4)))
        assert ids(found) == expected
        assert found[-1].class_id == 4


def one_class(of: Boxes, class_id: int) -> tuple[np.ndarray, Boxes]:
    at = np.flatnonzero(of.class_ids == class_id)
    return at, Boxes(of.xyxy[at], of.scores[at], of.class_ids[at])


@settings(max_examples=10)
@given(
    seed=st.integers(0, 10**6),
    backend=st.sampled_from(BACKENDS),
    miss=st.sampled_from([0.0, 0.3]),
)
# Where directions would pair objects of two classes if nothing but the lack of overlap spoke
# against it.
@example(seed=21, backend="ocsort", miss=0.0)
def test_each_class_is_matched_as_if_it_were_alone(seed, backend, miss):
    together = make(backend, lost_seconds=0.5)
    alone = [make(backend, lost_seconds=0.5) for _ in range(3)]
    scene, numbers = crowd(seed, objects=40, miss=miss), {}
    for frame in range(60):
        time_s, given_boxes = frame / 30, scene(frame, frame / 30)
        found = together.step(time_s, SIZE, given_boxes)
        wanted = []
        for class_id, tracker in enumerate(alone):
            at, some = one_class(given_boxes, class_id)
            for one in tracker.step(time_s, SIZE, some):
                place = None if one.detection is None else int(at[one.detection])
                wanted.append(((class_id, one.track_id), place, one.box))
        places = {one.detection: one.track_id for one in found if one.detection is not None}
        for name, place, _ in wanted:
            if place is not None:
                assert numbers.setdefault(name, places[place]) == places[place]
        assert len(set(numbers.values())) == len(numbers)
        told = {(one.track_id, one.detection): one.box for one in found}
        assert told == {
            (numbers[name], place): pytest.approx(box, abs=1e-6) for name, place, box in wanted
        }


def test_a_lost_track_says_the_class_of_its_last_detection():
    tracker = make(class_aware=False)
    for frame, class_id in enumerate((1, 1, 2)):
        tracker.step(frame / 30, SIZE, boxes(moving(50, class_id=class_id)))
    (lost,) = tracker.step(3 / 30, SIZE, boxes())
    assert (lost.detection, lost.class_id) == (None, 2)


def test_another_size_of_the_picture_ends_the_tracks():
    tracker = make()
    for frame in range(3):
        tracker.step(frame / 30, SIZE, boxes(moving(50)))
    assert ids(tracker.step(3 / 30, (320, 240), boxes(moving(50)))) == [2]


def test_a_box_that_left_the_picture_has_no_row_and_comes_back_as_itself():
    tracker = make(lost_seconds=5.0)
    for frame in range(20):
        tracker.step(frame / 30, SIZE, boxes(moving(480 + 8.0 * frame)))
    found = [tracker.step(frame / 30, SIZE, boxes()) for frame in range(20, 40)]
    assert found[0]
    assert found[0][0].box[2] == WIDTH
    assert found[-1] == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_min_frames_keeps_what_is_seen_once_out(backend):
    tracker = make(backend, min_frames=3)
    # OC-SORT names tracks at once in the first frames of a video.
    for frame in range(6):
        tracker.step(frame / 30, SIZE, boxes(moving(400)))
    before = ids(tracker.step(6 / 30, SIZE, boxes(moving(400))))
    found = [
        tracker.step((7 + frame) / 30, SIZE, boxes(moving(400), moving(50))) for frame in range(4)
    ]
    assert before == [1]
    assert len(found[0]) == 1
    assert ids(found[-1]) == [1, 2]


def test_duplicates_have_no_track():
    pair = boxes(moving(50), moving(53, 0.8), moving(50, 0.85, class_id=1), moving(300, 0.75))
    found = make().step(0.0, SIZE, pair)
    assert [(one.detection, one.class_id) for one in found] == [(0, 0), (2, 1), (3, 0)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_boxes_without_an_area_have_no_track(backend):
    flat, no_number = (10.0, 10.0, 10.0, 40.0, 0.9, 0), (1.0, 1.0, np.nan, 9.0, 0.9, 0)
    tracker = make(backend)
    for frame in range(3):
        (one,) = tracker.step(frame / 30, SIZE, boxes(flat, moving(50), no_number))
        assert (one.track_id, one.detection) == (1, 1)
