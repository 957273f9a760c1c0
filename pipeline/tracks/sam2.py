"""Tracks with masks: SAM 2 follows what the detector finds, through one video.

A detection that no track covers for some frames begins one, with its box as the prompt; from then
on the mask comes from the model and its memory of that object (see `follower`), and detections
only say that a track has one in a frame. A track whose mask is empty is lost: its box is predicted
until it is found again, or has been looked for long enough.

All that the frames to come depend on is in `save`, so that another process goes on to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config_trackers import Sam2Config
from pipeline.errors import ConfigError
from pipeline.tracks.births import Births, Covered, box_at, matched, usable_places
from pipeline.tracks.follower import Follower
from pipeline.tracks.frame_masks import FrameMask, Once, Scale, clipped, mask_of
from pipeline.tracks.light import Boxes
from pipeline.tracks.prompts import Prompt
from pipeline.tracks.sam2_model import LoadedSam2
from pipeline.tracks.samurai import Box, box_iou, follow

if TYPE_CHECKING:
    import torch

SEMANTICS = 1
"""Version of the code's meaning; raised whenever the same frames would give other tracks."""


@dataclass(frozen=True)
class TrackMask:
    """One track in one frame: tracked where it has a mask, else lost."""

    track_id: int
    detection: int | None
    """Position among the frame's boxes of the one that its mask's box covers best; None where
    there is none."""
    box: Box
    """Absolute pixels: around the mask; where it is lost, the predicted one in the picture."""
    class_id: int
    """That of its last detection, or of its prompt."""
    score: float | None
    """IoU that the model expects of the mask with the object; None where it is lost."""
    mask: bytes | None
    """Counts of the compressed COCO run-length encoding, at the frame's size; None where lost."""


@dataclass(frozen=True)
class TrackEnd:
    """A track that goes on no further than the frame before."""

    track_id: int
    reason: str


@dataclass(frozen=True)
class Saved:
    """A tracker between two frames."""

    facts: dict[str, Any]
    """As JSON has them."""
    tensors: dict[str, torch.Tensor]
    """On the CPU."""


@dataclass
class _Track:
    number: int
    class_id: int
    follower: Follower
    box: Box
    """The newest one of a mask."""
    seen_s: float
    """When it last had a mask of its own."""


class Sam2Tracker:
    """The tracks of one video; `step` is given its frames in order.

    Args:
        config: the tracker's.
        model: loaded; trackers of several videos may share it.
        saved: what `save` of another one gave, to go on from there.

    Raises ConfigError where the model has less memory than is configured.
    """

    def __init__(self, config: Sam2Config, model: LoadedSam2, saved: Saved | None = None) -> None:
        if config.num_maskmem is not None and config.num_maskmem > model.model.num_maskmem:
            raise ConfigError(
                f"tracker.num_maskmem = {config.num_maskmem}: the model {config.model} has "
                f"{model.model.num_maskmem}; give that or less"
            )
        self._config = config
        self._model = model
        self._cache = model.feature_cache()
        self._births = Births(config)
        self._tracks: list[_Track] = []
        self._last_id = 0
        self._frame = 0
        """Number of the newest frame: of those that were given, from 1."""
        self._size = (0, 0)
        self.ended: list[TrackEnd] = []
        """The tracks that the newest frame has ended."""
        if saved is not None:
            self._restore(saved)

    def step(
        self,
        time_s: float,
        pixels: np.ndarray,
        boxes: Boxes,
        prompts: Sequence[Prompt] = (),
    ) -> list[TrackMask]:
        """One frame.

        Args:
            time_s: when it is shown: later than the frame before.
            pixels: uint8 (h, w, 3) RGB of the displayed frame. With another size than before,
                tracks end and begin anew.
            boxes: what the detector found in it.
            prompts: by hand, each of which begins a track, beyond `most_objects` too.

        Raises UsageError for a prompt that cannot be of this picture.

        Returns the tracks that are alive in it, by id. A lost one whose predicted box lies outside
        of the picture is alive, and is left out.
        """
        size = pixels.shape[1], pixels.shape[0]
        for prompt in prompts:
            prompt.check(size)
        self.ended = []
        self._frame += 1
        self._resize(size)
        picture = Once(lambda: self._model.picture(pixels))
        masks = {track.number: self._look(track, picture) for track in self._tracks}
        self._end(time_s, masks)
        places = usable_places(boxes, self._config)
        seen = [(track, mask) for track in self._tracks if (mask := masks[track.number])]
        covers = [Covered(mask.box, track.class_id) for track, mask in seen]
        pairs = matched(covers, boxes, places, self._config)
        detections = {seen[at][0].number: place for at, place in pairs.items()}
        free = [at for at in places if at not in detections.values()]
        due = self._births.step(boxes, free)
        for prompt in prompts:
            self._begin(time_s, picture, prompt, masks)
        for at in due:
            prompt = Prompt(int(boxes.class_ids[at]), box_at(boxes, at), by_detector=True)
            if len(self._tracks) < self._config.most_objects:
                number = self._begin(time_s, picture, prompt, masks)
                if number is not None:
                    detections[number] = at
        self._cache.clear_all()
        found = (self._row(one, masks[one.number], detections, boxes) for one in self._tracks)
        return [row for row in found if row is not None]

    def _resize(self, size: tuple[int, int]) -> None:
        """End all tracks where the picture is of another size than before."""
        if self._frame > 1 and size != self._size:
            (width, height), (w, h) = self._size, size
            reason = f"the picture changed from {width}x{height} to {w}x{h}"
            self.ended += [TrackEnd(track.number, reason) for track in self._tracks]
            self._tracks = []
            self._births.clear()
        self._size = size

    def _look(self, track: _Track, picture: Once, prompt: Prompt | None = None) -> FrameMask | None:
        """The mask of a track in the newest frame; None where it has not a pixel."""
        logits, seen = track.follower.look(self._frame, picture.value, prompt, self._size)
        samurai = self._config.memory == "samurai"
        there = seen.object_score > (self._config.min_object_score if samurai else 0.0)
        mask = mask_of(logits, seen.iou, self._size) if there else None
        if mask is not None:
            track.box = mask.box
        if not samurai:
            box = None if mask is None else self._scale.to_model(mask.box)
            follow(track.follower.motion, box)
        return mask

    @property
    def _scale(self) -> Scale:
        return Scale(self._size, self._model.side)

    def _begin(
        self, time_s: float, picture: Once, prompt: Prompt, masks: dict[int, FrameMask | None]
    ) -> int | None:
        """Begin a track, and add its mask; its id.

        None, and no track, for a detection whose mask is of something else than what its box says:
        it would be found without a track again and again.
        """
        follower = Follower(self._model, self._config, self._cache)
        track = _Track(self._last_id + 1, prompt.class_id, follower, prompt.around(), time_s)
        mask = self._look(track, picture, prompt)
        if prompt.by_detector and (
            mask is None or box_iou(mask.box, prompt.box) < self._config.match_iou
        ):
            return None
        self._last_id += 1
        self._tracks.append(track)
        masks[track.number] = mask
        return track.number

    def _end(self, time_s: float, masks: dict[int, FrameMask | None]) -> None:
        """End the tracks that have been lost for long, or follow what an older one does."""
        alive: list[_Track] = []
        for track in self._tracks:
            mask = masks[track.number]
            older = self._older(track, alive, masks)
            if mask is not None and older is None:
                track.seen_s = time_s
            if time_s - track.seen_s <= self._config.lost_seconds:
                alive.append(track)
                continue
            how = "lost" if older is None else f"the same as track {older.number}"
            self.ended.append(TrackEnd(track.number, f"{how} for {self._config.lost_seconds:g} s"))
        self._tracks = alive

    def _older(
        self, track: _Track, others: Sequence[_Track], masks: dict[int, FrameMask | None]
    ) -> _Track | None:
        """Of the other tracks the first whose mask is that of this one."""
        mask, aware = masks[track.number], self._config.class_aware
        for other in others:
            that = masks[other.number]
            if mask is None or that is None or (aware and other.class_id != track.class_id):
                continue
            if mask.iou(that) > self._config.duplicate_iou:
                return other
        return None

    def _row(
        self, track: _Track, mask: FrameMask | None, detections: dict[int, int], boxes: Boxes
    ) -> TrackMask | None:
        if mask is None:
            predicted = track.follower.motion.box
            to_picture = self._scale.to_picture
            box = clipped(to_picture(predicted) if predicted else track.box, self._size)
            if box is None:
                return None
            return TrackMask(track.number, None, box, track.class_id, None, None)
        at = detections.get(track.number)
        if at is not None:
            track.class_id = int(boxes.class_ids[at])
        return TrackMask(track.number, at, mask.box, track.class_id, mask.score, mask.rle["counts"])

    def alive(self) -> list[tuple[int, int, np.ndarray]]:
        """Of the tracks that go on: track_id, class_id and, float32 (hidden,), what the model keeps
        of the object in the newest frame."""
        return [(one.number, one.class_id, one.follower.pointer()) for one in self._tracks]

    def save(self) -> Saved:
        """All that the frames to come depend on."""
        tensors = {}
        tracks = []
        for track in self._tracks:
            facts, of_track = track.follower.save()
            tensors.update({f"{track.number}.{name}": one for name, one in of_track.items()})
            tracks.append(
                {
                    "number": track.number,
                    "class_id": track.class_id,
                    "box": list(track.box),
                    "seen_s": track.seen_s,
                    "follower": facts,
                }
            )
        facts = {
            "frame": self._frame,
            "size": list(self._size),
            "last_id": self._last_id,
            "births": self._births.save(),
            "tracks": tracks,
        }
        return Saved(facts, tensors)

    def _restore(self, saved: Saved) -> None:
        facts = saved.facts
        self._frame, self._last_id = facts["frame"], facts["last_id"]
        self._size = (facts["size"][0], facts["size"][1])
        self._births.restore(facts["births"])
        for one in facts["tracks"]:
            mine = f"{one['number']}."
            tensors = {
                name.removeprefix(mine): tensor
                for name, tensor in saved.tensors.items()
                if name.startswith(mine)
            }
            follower = Follower(self._model, self._config, self._cache)
            follower.restore(one["follower"], tensors)
            self._tracks.append(
                _Track(one["number"], one["class_id"], follower, tuple(one["box"]), one["seen_s"])
            )
