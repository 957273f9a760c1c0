"""Tracks of whole videos: begun, followed, lost, ended, saved and gone on with."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco

from pipeline.errors import ConfigError, UsageError
from pipeline.tracks.prompts import Prompt
from pipeline.tracks.sam2 import Sam2Tracker, TrackEnd, TrackMask
from pipeline.tracks.sam2_model import LoadedSam2
from tests.tracks.sam2_made import (
    FPS,
    NOTHING,
    OBJECTS,
    SIZE,
    blind,
    boxes_of,
    pixels,
    run,
    sam2_config,
    through_bytes,
)

SCENE = {0: boxes_of(OBJECTS[0]), 3: boxes_of(OBJECTS[1], OBJECTS[2]), 5: boxes_of(OBJECTS[1])}
"""Three objects that begin one after another."""


def new(loaded: LoadedSam2, **given: Any) -> Sam2Tracker:
    return Sam2Tracker(sam2_config(**given), loaded)


def ids(rows: list[TrackMask]) -> list[int]:
    return [row.track_id for row in rows]


@pytest.fixture(scope="module")
def scene(loaded: LoadedSam2) -> dict[str, list[list[TrackMask]]]:
    """The rows of the scene in one go, by memory."""
    return {
        memory: run(new(loaded, memory=memory), range(22), SCENE)
        for memory in ("samurai", "recent")
    }


def test_rows_are_what_the_masks_are(scene: dict[str, list[list[TrackMask]]]) -> None:
    rows = [row for frame in scene["samurai"] for row in frame]
    assert {row.track_id for row in rows} == {1, 2, 3}
    assert [ids(frame) for frame in scene["samurai"][:5]] == [[1], [1], [1], [1, 2, 3], [1, 2, 3]]
    for row in rows:
        assert row.mask is not None
        assert row.score is not None
        assert 0 < row.score < 1
        mask = coco.decode({"size": [SIZE[1], SIZE[0]], "counts": row.mask})
        y, x = np.nonzero(mask)
        assert row.box == (x.min(), y.min(), x.max() + 1, y.max() + 1)
    assert scene["samurai"] != scene["recent"]


def test_detections_and_classes_of_tracks(scene: dict[str, list[list[TrackMask]]]) -> None:
    third = {row.track_id: (row.detection, row.class_id) for row in scene["samurai"][3]}
    # Of equal scores the first detection is the first track; all three boxes are covered.
    assert third == {1: (None, 0), 2: (0, 1), 3: (1, 2)}
    assert [row.detection for row in scene["samurai"][6]] == [None, None, None]


@pytest.mark.parametrize("memory", ["samurai", "recent"])
@pytest.mark.parametrize("at", [1, 3, 4, 19])
def test_save_and_resume_is_uninterrupted(
    loaded: LoadedSam2, scene: dict[str, list[list[TrackMask]]], memory: str, at: int
) -> None:
    first = new(loaded, memory=memory)
    before = run(first, range(at), SCENE)
    saved = through_bytes(first.save())
    second = Sam2Tracker(sam2_config(memory=memory), loaded, saved)
    # What comes back is what was saved, also where nothing has gone on yet.
    again = second.save()
    assert again.facts == first.save().facts
    assert sorted(again.tensors) == sorted(saved.tensors)
    assert all(torch.equal(again.tensors[name], saved.tensors[name]) for name in saved.tensors)
    assert before + run(second, range(at, 22), SCENE) == scene[memory]


def test_saved_tensors_are_no_larger_than_what_is_read(loaded: LoadedSam2) -> None:
    tracker = new(loaded)
    run(tracker, range(22), SCENE)
    for name, tensor in tracker.save().tensors.items():
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size(), name
        assert tensor.device.type == "cpu"
    assert {tensor.dtype for tensor in tracker.save().tensors.values()} == {
        torch.bfloat16,
        torch.float32,
    }


def test_objects_together_are_what_they_are_alone(
    loaded: LoadedSam2, scene: dict[str, list[list[TrackMask]]]
) -> None:
    places = {0: (0, 0), 1: (3, 1), 2: (3, 2)}
    for number, (first, at) in places.items():
        tracker = new(loaded)
        rows = run(tracker, range(12), {first: boxes_of(OBJECTS[at])})
        alone = [(row.mask, row.score, row.box) for frame in rows for row in frame]
        together = [
            (row.mask, row.score, row.box)
            for frame in scene["samurai"][:12]
            for row in frame
            if row.track_id == number + 1
        ]
        assert alone == together, number


def test_no_state_goes_from_one_video_to_the_next(
    loaded: LoadedSam2, scene: dict[str, list[list[TrackMask]]]
) -> None:
    other = new(loaded)
    other.step(0.0, pixels(7), boxes_of(OBJECTS[3], OBJECTS[0]))
    mixed = new(loaded)
    rows = []
    for at in range(8):
        rows.append(mixed.step(at / FPS, pixels(at), SCENE.get(at, NOTHING)))
        other.step((at + 1) / FPS, pixels(at + 9), NOTHING)
    assert rows == scene["samurai"][:8]
    assert run(new(loaded), range(8), SCENE) == scene["samurai"][:8]


def held(tracker: Sam2Tracker) -> tuple[int, ...]:
    """Tensors of this process and their bytes; tensors of the saved state, and its text's length
    but for the digits of numbers."""
    gc.collect()
    tensors = [one for one in gc.get_objects() if type(one) is torch.Tensor]
    saved = tracker.save()
    keys = sum(not letter.isdigit() for letter in str(saved.facts))
    return (
        len(tensors),
        sum(one.untyped_storage().nbytes() for one in tensors),
        len(saved.tensors),
        round(keys / 100),
    )


def test_a_long_video_holds_no_more_than_a_short_one(loaded: LoadedSam2) -> None:
    # All frames are good: with a gate it is now one more that is remembered, now one less.
    tracker = new(loaded, memory_iou=0.0)
    counts = []
    for at in range(231):
        tracker.step(at / FPS, pixels(at), boxes_of(OBJECTS[0]) if at == 0 else NOTHING)
        if at in (30, 200, 230):
            counts.append(held(tracker))
    assert counts[0] == counts[1] == counts[2]


def test_an_object_that_appears_late_is_tracked(loaded: LoadedSam2) -> None:
    tracker = new(loaded, new_frames=2)
    late = {at: boxes_of(OBJECTS[1]) for at in range(1000, 1010)}
    calls: list[int] = []
    hook = loaded.model.vision_encoder.register_forward_hook(lambda *_: calls.append(1))
    rows = run(tracker, range(1010), late)
    hook.remove()
    assert not any(rows[:1001])
    assert [ids(frame) for frame in rows[1001:]] == [[1]] * 9
    # Nothing is looked at while there is nothing to follow.
    assert len(calls) == 9
    early = run(new(loaded), range(1001, 1010), {1001: boxes_of(OBJECTS[1])})
    assert [frame[0].mask for frame in rows[1001:]] == [frame[0].mask for frame in early]


@pytest.mark.parametrize("memory", ["samurai", "recent"])
def test_a_lost_track_is_predicted_then_ends(loaded: LoadedSam2, memory: str) -> None:
    tracker = new(loaded, memory=memory, lost_seconds=0.2)
    seen = run(tracker, range(6), {0: boxes_of(OBJECTS[0])})[-1][0]
    with blind(loaded):
        lost = run(tracker, range(6, 11), {})
        assert tracker.ended == []
        after = run(tracker, range(11, 13), {})
    for frame in lost:
        (row,) = frame
        assert (row.track_id, row.detection, row.class_id) == (1, None, 0)
        assert (row.score, row.mask) == (None, None)
        x1, y1, x2, y2 = row.box
        assert 0 <= x1 < x2 <= SIZE[0]
        assert 0 <= y1 < y2 <= SIZE[1]
    # The mask fills most of the picture, and so does what the filter makes of it.
    assert lost[0][0].box == pytest.approx(seen.box, abs=8)
    # Seen last at 5/30 s: 0.2 s are over after frame 11.
    assert [ids(frame) for frame in after] == [[1], []]
    assert tracker.ended == [TrackEnd(1, "lost for 0.2 s")]
    assert tracker.save().tensors == {}


def test_a_lost_track_is_found_again(loaded: LoadedSam2) -> None:
    tracker = new(loaded)
    run(tracker, range(4), {0: boxes_of(OBJECTS[0])})
    with blind(loaded):
        lost = run(tracker, range(4, 7), {})
    found = run(tracker, range(7, 9), {})
    assert [row.mask is None for frame in lost + found for row in frame] == [True] * 3 + [False] * 2
    assert {row.track_id for frame in lost + found for row in frame} == {1}


def test_a_detection_that_is_not_there_begins_nothing(loaded: LoadedSam2) -> None:
    tracker = new(loaded, new_frames=2)
    with blind(loaded):
        assert not any(run(tracker, range(4), {at: boxes_of(OBJECTS[0]) for at in range(4)}))
    # No id was used up.
    assert ids(run(tracker, range(4, 6), {at: boxes_of(OBJECTS[0]) for at in (4, 5)})[1]) == [1]


def test_a_mask_unlike_its_box_begins_nothing(loaded: LoadedSam2) -> None:
    assert run(new(loaded, match_iou=0.9), range(1), {0: boxes_of(OBJECTS[0])}) == [[]]


def test_a_change_of_size_ends_and_begins_anew(loaded: LoadedSam2) -> None:
    tracker = new(loaded)
    run(tracker, range(3), {0: boxes_of(OBJECTS[0], OBJECTS[1])})
    small = (96, 64)
    assert tracker.step(3 / FPS, pixels(3, small), boxes_of(OBJECTS[0]))[0].track_id == 3
    reason = "the picture changed from 128x80 to 96x64"
    assert tracker.ended == [TrackEnd(1, reason), TrackEnd(2, reason)]
    row = tracker.step(4 / FPS, pixels(4, small), NOTHING)[0]
    assert tracker.ended == []
    assert coco.decode({"size": [64, 96], "counts": row.mask}).shape == (64, 96)
    fresh = new(loaded)
    fresh.step(0.0, pixels(3, small), boxes_of(OBJECTS[0]))
    alone = fresh.step(1 / FPS, pixels(4, small), NOTHING)[0]
    assert (alone.mask, alone.score) == (row.mask, row.score)


def test_a_change_of_size_is_seen_after_a_resume(loaded: LoadedSam2) -> None:
    tracker = new(loaded)
    run(tracker, range(2), {0: boxes_of(OBJECTS[0])})
    again = Sam2Tracker(sam2_config(), loaded, through_bytes(tracker.save()))
    again.step(1.0, pixels(0, (96, 64)), NOTHING)
    assert [end.track_id for end in again.ended] == [1]


def test_as_many_objects_as_are_allowed(loaded: LoadedSam2) -> None:
    rows = [(*OBJECTS[n][:4], score, n) for n, score in enumerate((0.8, 0.95, 0.9))]
    (frame,) = run(new(loaded, most_objects=2), range(1), {0: boxes_of(*rows)})
    # The best two, by score.
    assert [(row.track_id, row.class_id) for row in frame] == [(1, 1), (2, 2)]


def test_a_track_that_follows_an_older_one_ends(loaded: LoadedSam2) -> None:
    # The masks of random weights are all alike.
    tracker = new(loaded, duplicate_iou=0.3, lost_seconds=0.1, class_aware=False)
    run(tracker, range(1), {0: boxes_of(OBJECTS[0], OBJECTS[3])})
    ends = []
    for at in range(1, 8):
        tracker.step(at / FPS, pixels(at), NOTHING)
        ends += tracker.ended
    assert ends == [TrackEnd(2, "the same as track 1 for 0.1 s")]


def test_prompts_by_hand(loaded: LoadedSam2) -> None:
    mask = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    mask[16:48, 32:96] = 1
    prompts = [Prompt(5, mask=mask), Prompt(6, points=((20, 30, 1),)), Prompt(7, OBJECTS[0][:4])]
    tracker = new(loaded)
    rows = tracker.step(0.0, pixels(0), NOTHING, prompts)
    assert [(row.track_id, row.class_id, row.detection) for row in rows] == [
        (1, 5, None),
        (2, 6, None),
        (3, 7, None),
    ]
    assert rows[0].mask is not None
    given = coco.decode({"size": [SIZE[1], SIZE[0]], "counts": rows[0].mask})
    both = np.logical_and(given, mask).sum() / np.logical_or(given, mask).sum()
    assert both > 0.95
    assert rows[0].score == 1
    box = run(new(loaded), range(3), {0: boxes_of((*OBJECTS[0][:4], 0.9, 7))})
    by_hand = [tracker.step(at / FPS, pixels(at), NOTHING)[2] for at in (1, 2)]
    assert [row.mask for row in by_hand] == [frame[0].mask for frame in box[1:]]
    with blind(loaded):
        late = tracker.step(0.1, pixels(3), NOTHING, [Prompt(8, (10, 10, 20, 20))])
    # What a person says is there is a track, also where the model does not see it.
    assert (late[3].track_id, late[3].mask, late[3].box) == (4, None, (10, 10, 20, 20))


def test_a_prompt_of_another_picture_changes_nothing(loaded: LoadedSam2) -> None:
    tracker = new(loaded)
    run(tracker, range(1), {0: boxes_of(OBJECTS[0])})
    before = tracker.save().facts
    with pytest.raises(UsageError, match="is outside of a picture of 128x80"):
        tracker.step(0.1, pixels(1), NOTHING, [Prompt(0, (500, 10, 520, 30))])
    assert tracker.save().facts == before


def test_more_memory_than_the_model_has_is_a_mistake(loaded: LoadedSam2) -> None:
    with pytest.raises(ConfigError, match=r"tracker.num_maskmem = 8: the model random has 7"):
        new(loaded, num_maskmem=8)


def test_boxes_that_are_none_are_passed_over(loaded: LoadedSam2) -> None:
    odd = boxes_of((5, 5, 5, 9, 0.9, 0), (0, 0, float("nan"), 4, 0.9, 0), (9, 9, 2, 2, 0.9, 0))
    assert run(new(loaded), range(1), {0: odd}) == [[]]
