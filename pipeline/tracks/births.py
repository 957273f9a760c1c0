"""Which detections begin tracks of SAM 2: those that no track covers, frame after frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.config_trackers import Sam2Config
from pipeline.tracks.light import Boxes
from pipeline.tracks.overlaps import usable
from pipeline.tracks.samurai import Box, box_iou


class Candidate(NamedTuple):
    """A detection that no track covers."""

    box: Box
    class_id: int
    frames: int
    """In a row in which it has been seen."""


class Covered(NamedTuple):
    """A track that has a mask in a frame."""

    box: Box
    class_id: int


def usable_places(boxes: Boxes, config: Sam2Config) -> list[int]:
    """Places of the detections that have an area and are no second one of an object."""
    groups = boxes.class_ids if config.class_aware else np.zeros_like(boxes.class_ids)
    places: list[int] = usable(boxes.xyxy, boxes.scores, groups, config.duplicate_iou).tolist()
    return places


def matched(
    tracks: Sequence[Covered], boxes: Boxes, places: Sequence[int], config: Sam2Config
) -> dict[int, int]:
    """Each track's detection, by their places: the pairs that overlap best go first."""
    pairs = []
    for number, track in enumerate(tracks):
        for at in places:
            if config.class_aware and int(boxes.class_ids[at]) != track.class_id:
                continue
            iou = box_iou(track.box, box_at(boxes, at))
            if iou >= config.match_iou:
                pairs.append((-iou, number, at))
    found: dict[int, int] = {}
    taken: set[int] = set()
    for _, number, at in sorted(pairs):
        if number not in found and at not in taken:
            found[number] = at
            taken.add(at)
    return found


class Births:
    """The detections that may begin tracks; `step` is given those that no track covers."""

    def __init__(self, config: Sam2Config) -> None:
        self._config = config
        self._waiting: list[Candidate] = []

    def step(self, boxes: Boxes, places: Sequence[int]) -> list[int]:
        """Places of those that have been there long enough, the best score first."""
        good = [at for at in places if boxes.scores[at] >= self._config.new_score]
        good.sort(key=lambda at: (-float(boxes.scores[at]), at))
        before, self._waiting = self._waiting, []
        due = []
        for at in good:
            box, class_id = box_at(boxes, at), int(boxes.class_ids[at])
            same = [
                number
                for number, one in enumerate(before)
                if (one.class_id == class_id or not self._config.class_aware)
                and box_iou(one.box, box) >= self._config.match_iou
            ]
            best = max(same, key=lambda number: box_iou(before[number].box, box), default=None)
            frames = 1 if best is None else before.pop(best).frames + 1
            if frames >= self._config.new_frames:
                due.append(at)
            else:
                self._waiting.append(Candidate(box, class_id, frames))
        return due

    def clear(self) -> None:
        """Forget them, at a picture of another size."""
        self._waiting = []

    def save(self) -> list[Any]:
        """As JSON has it."""
        return [[list(one.box), one.class_id, one.frames] for one in self._waiting]

    def restore(self, saved: list[Any]) -> None:
        self._waiting = [Candidate(tuple(box), *rest) for box, *rest in saved]


def box_at(boxes: Boxes, at: int) -> Box:
    """One detection's box."""
    x1, y1, x2, y2 = boxes.xyxy[at].tolist()
    return x1, y1, x2, y2
