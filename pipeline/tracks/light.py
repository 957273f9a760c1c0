"""Light tracks: boxes of one frame after another to tracks, by motion alone.

ByteTrack (Zhang et al. 2022, arXiv:2110.06864) and OC-SORT (Cao et al. 2023, arXiv:2203.14360) as
the package `trackers` has them; around it what a table of a whole video wants: ids that count from
1 in order of appearance, a box in every frame in which a track is alive, and a state that can be
saved after any frame (see `state`).

The package scales its filters' transition matrix by elapsed time, and their noise by the discrete
white noise acceleration model (Bar-Shalom, Li and Kirubarajan 2001, section 6.3.2), once it is
given times (see its docs, "Dynamic frame rate"): motion is in seconds here, whatever the stride.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config_trackers import ByteTrackConfig, OCSortConfig
from pipeline.tracks.overlaps import Overlap, usable
from pipeline.tracks.state import restore_tracklet, tracklet_state

SEMANTICS = 1
"""Version of the code's meaning; raised whenever the same boxes would give other tracks."""

PACKAGE = "'frameledger[tracks]'"
"""What pip installs the trackers with."""

_ALL = -1
"""The class of every box where classes are not told apart."""


@dataclass(frozen=True)
class Boxes:
    """The detections of one frame, `n` of them."""

    xyxy: np.ndarray
    """float64 (n, 4): absolute pixels."""
    scores: np.ndarray
    """float64 (n,)"""
    class_ids: np.ndarray
    """int64 (n,)"""


@dataclass(frozen=True)
class TrackBox:
    """One track in one frame."""

    track_id: int
    detection: int | None
    """Position among the frame's boxes; None where the track is lost: the box is predicted."""
    box: tuple[float, float, float, float]
    class_id: int
    """That of its last detection."""


class _Given:
    """What the package asks of detections, which its own class checks at some length: a fifth of
    the time of a step."""

    def __init__(self, xyxy: np.ndarray, confidence: np.ndarray, at: np.ndarray) -> None:
        self.xyxy = xyxy
        self.confidence = confidence
        self.at = at
        """Places of these boxes among all of the frame."""
        self.tracker_id = np.full(len(at), -1)

    def __len__(self) -> int:
        return len(self.at)

    def __getitem__(self, some: np.ndarray) -> _Given:
        return _Given(self.xyxy[some], self.confidence[some], self.at[some])


class LightTracker:
    """The tracks of one video; `step` is given its frames in order.

    Args:
        config: backend and parameters.
        frames_per_s: the video's nominal rate.
        saved: what `save` of another one gave, to go on from there.

    Raises UsageError where the package is not installed.
    """

    def __init__(
        self,
        config: ByteTrackConfig | OCSortConfig,
        frames_per_s: float,
        saved: dict[str, Any] | None = None,
    ) -> None:
        self._config = config
        self._rate = frames_per_s
        self._by_class: dict[int, Any] = {}
        self._last_id = 0
        self._class_of: dict[int, int] = {}
        """Of each track that is alive the class of its last detection."""
        self._size: tuple[int, int] | None = None
        self._spawn_score = config.high_score
        if isinstance(config, ByteTrackConfig):
            self._spawn_score = max(config.high_score, config.new_score)
        if saved is not None:
            self._restore(saved)

    def step(self, time_s: float, size: tuple[int, int], boxes: Boxes) -> list[TrackBox]:
        """One frame.

        Args:
            time_s: when it is shown: later than the frame before.
            size: its width and height. With another size than before, tracks end and begin anew.

        Returns the tracks that are alive in it, by id. A lost one whose predicted box lies
        outside of the picture is alive, and has no box.
        """
        if self._size is not None and size != self._size:
            self._by_class.clear()
            self._class_of.clear()
        self._size = size
        aware = self._config.class_aware
        groups = boxes.class_ids if aware else np.full(len(boxes.scores), _ALL)
        at = usable(boxes.xyxy, boxes.scores, groups, self._config.duplicate_iou)
        by_class: dict[int, list[int]] = {
            name: [] for name, tracker in self._by_class.items() if tracker.tracks
        }
        for i, name in zip(at.tolist(), groups[at].tolist(), strict=True):
            by_class.setdefault(name, []).append(i)
        found: list[TrackBox] = []
        for name in sorted(by_class):
            if name not in self._by_class:
                self._by_class[name] = self._made()
            places = np.array(by_class[name], np.int64)
            found += self._step(self._by_class[name], time_s, boxes, places)
        alive = {one.tracker_id for each in self._by_class.values() for one in each.tracks}
        self._class_of = {i: name for i, name in self._class_of.items() if i in alive}
        return sorted(found, key=lambda one: one.track_id)

    def _step(self, tracker: Any, time_s: float, boxes: Boxes, at: np.ndarray) -> list[TrackBox]:
        """One class (or all of them): `at` are the places of its boxes."""
        before = list(tracker.tracks)
        given = _Given(boxes.xyxy[at], boxes.scores[at], at)
        result = tracker.update(given, timestamp=time_s)
        # With nothing to track, and no tracks, it is an empty one of its own.
        places = result.at.tolist() if isinstance(result, _Given) else []
        ids = dict(zip(places, result.tracker_id.tolist(), strict=True))
        if self._config.min_frames == 1:
            # The package names a track at its second detection: here it has its id at once.
            known = {id(one) for one in before}
            news = [one for one in tracker.tracks if id(one) not in known]
            unnamed = [i for i in at.tolist() if ids[i] < 0]
            begun = [i for i in unnamed if boxes.scores[i] >= self._spawn_score]
            for one, i in zip(news, begun, strict=True):
                one.tracker_id = ids[i] = self._next_id()
        found = []
        for i in sorted(ids):
            number = int(ids[i])
            if number > 0:
                name = self._class_of[number] = int(boxes.class_ids[i])
                x1, y1, x2, y2 = boxes.xyxy[i].tolist()
                found.append(TrackBox(number, i, (x1, y1, x2, y2), name))
        for one in tracker.tracks:
            if one.time_since_update > 0 and one.tracker_id > 0:
                box = _inside(one.get_state_bbox(), self._size or (0, 0))
                if box is not None:
                    number = int(one.tracker_id)
                    found.append(TrackBox(number, None, box, self._class_of[number]))
        return found

    def save(self) -> dict[str, Any]:
        """All that the frames to come depend on, as JSON has it."""
        return {
            "last_id": self._last_id,
            "size": self._size,
            "classes": list(self._class_of.items()),
            "trackers": [[name, _saved(one)] for name, one in self._by_class.items()],
        }

    def _restore(self, saved: dict[str, Any]) -> None:
        self._last_id = saved["last_id"]
        self._size = tuple(saved["size"]) if saved["size"] is not None else None
        self._class_of = dict(saved["classes"])
        for name, found in saved["trackers"]:
            tracker = self._by_class[name] = self._made()
            tracker._last_timestamp = found["time_s"]
            if "frame_count" in found:
                tracker.frame_count = found["frame_count"]
            for one in found["tracks"]:
                tracker.tracks.append(self._tracklet())
                restore_tracklet(tracker.tracks[-1], one)

    def _made(self) -> Any:
        """A tracker of the package that counts ids together with the others of the video."""
        trackers = _package()
        config = self._config
        shared: dict[str, Any] = {
            "frame_rate": self._rate,
            "minimum_consecutive_frames": config.min_frames,
            "minimum_iou_threshold": config.min_iou,
            "high_conf_det_threshold": config.high_score,
            "iou": Overlap(),
        }
        tracker: Any
        if isinstance(config, ByteTrackConfig):
            tracker = trackers.ByteTrackTracker(
                track_activation_threshold=config.new_score, **shared
            )
        else:
            tracker = trackers.OCSORTTracker(
                direction_consistency_weight=config.direction_weight,
                delta_t=config.direction_frames,
                **shared,
            )
        # The package counts this in frames of 1/30 s.
        tracker.maximum_time_without_update = config.lost_seconds
        tracker._allocate_tracker_id = self._next_id
        return tracker

    def _tracklet(self) -> Any:
        """A track of the package, to be restored."""
        nowhere = np.array([0.0, 0.0, 1.0, 1.0])
        if isinstance(self._config, ByteTrackConfig):
            from trackers.core.bytetrack.tracklet import ByteTrackTracklet

            return ByteTrackTracklet(nowhere)
        from trackers.core.ocsort.tracklet import OCSORTTracklet

        return OCSORTTracklet(nowhere, delta_t=self._config.direction_frames)

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id


def _saved(tracker: Any) -> dict[str, Any]:
    found = {
        "time_s": tracker._last_timestamp,
        "tracks": [tracklet_state(one) for one in tracker.tracks],
    }
    if hasattr(tracker, "frame_count"):
        found["frame_count"] = tracker.frame_count
    return found


def _package() -> Any:
    from pipeline.results.optional import load

    return load("trackers", PACKAGE, "the configuration's tracker")


def _inside(box: np.ndarray, size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """The part of a box that lies in the picture; None where there is none."""
    x1, y1, x2, y2 = (float(side) for side in box)
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        return None
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, size[0]), min(y2, size[1])
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None
