"""Light tracks: boxes of one frame after another to tracks, by motion alone.

ByteTrack (Zhang et al. 2022, arXiv:2110.06864) and OC-SORT (Cao et al. 2023, arXiv:2203.14360) as
the package `trackers` has them; around it what a table of a whole video wants: ids that count from
1 in order of appearance, a box in every frame in which a track is alive, and a state that can be
saved after any frame (see `state`). Classes are matched in one go, each as if it were alone: the
package takes most of its time a call, not a box.

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
from pipeline.tracks.overlaps import LANE_WIDTH, Overlap, in_lanes, usable
from pipeline.tracks.state import restore_tracklet, tracklet_state

SEMANTICS = 2
"""Version of the code's meaning; raised whenever the same boxes would give other tracks."""

PACKAGE = "'frameledger[tracks]'"
"""What pip installs the trackers with."""


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
        self._last_id = 0
        self._class_of: dict[int, int] = {}
        """Of each track that is alive the class of its last detection."""
        self._lanes: dict[int, int] = {}
        """Of each class its number, by which its boxes lie apart from those of the others."""
        self._size: tuple[int, int] | None = None
        self._spawn_score = config.high_score
        if isinstance(config, ByteTrackConfig):
            self._spawn_score = max(config.high_score, config.new_score)
        self._tracker = self._made()
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
            self._tracker = self._made()
            self._class_of.clear()
        self._size = size
        lanes = self._lanes_of(boxes.class_ids)
        at = usable(boxes.xyxy, boxes.scores, lanes, self._config.duplicate_iou)
        ids = self._update(time_s, boxes, at, lanes[at])
        found = []
        for i, number in sorted(ids.items()):
            if number > 0:
                name = self._class_of[number] = int(boxes.class_ids[i])
                x1, y1, x2, y2 = boxes.xyxy[i].tolist()
                found.append(TrackBox(number, i, (x1, y1, x2, y2), name))
        alive = {}
        for one in self._tracker.tracks:
            number = int(one.tracker_id)
            if number < 0:
                continue
            name = alive[number] = self._class_of[number]
            if one.time_since_update > 0:
                box = _inside(one.get_state_bbox(), self._lane(name) * LANE_WIDTH, size)
                if box is not None:
                    found.append(TrackBox(number, None, box, name))
        self._class_of = alive
        return sorted(found, key=lambda one: one.track_id)

    def _update(
        self, time_s: float, boxes: Boxes, at: np.ndarray, lanes: np.ndarray
    ) -> dict[int, int]:
        """The track of each box, by its place; below 0 where it has none.

        Args:
            at: int64 (n,): places of the boxes that are used.
            lanes: int64 (n,): of these.
        """
        tracker = self._tracker
        if not len(at) and not tracker.tracks:
            return {}
        before = list(tracker.tracks)
        given = _Given(in_lanes(boxes.xyxy[at], lanes), boxes.scores[at], at)
        result = tracker.update(given, timestamp=time_s)
        # Of no boxes it is an empty one of the package's own.
        places = result.at.tolist() if isinstance(result, _Given) else []
        ids: dict[int, int] = dict(zip(places, result.tracker_id.tolist(), strict=True))
        if self._config.min_frames == 1:
            # The package names a track at its second detection: here it has its id at once.
            known = {id(one) for one in before}
            news = [one for one in tracker.tracks if id(one) not in known]
            begun = [i for i in at.tolist() if ids[i] < 0 and boxes.scores[i] >= self._spawn_score]
            for one, i in zip(news, begun, strict=True):
                one.tracker_id = ids[i] = self._next_id()
        return ids

    def _lanes_of(self, class_ids: np.ndarray) -> np.ndarray:
        """int64 (n,)"""
        return np.array([self._lane(name) for name in class_ids.tolist()], np.int64)

    def _lane(self, class_id: int) -> int:
        if not self._config.class_aware:
            return 0
        return self._lanes.setdefault(class_id, len(self._lanes))

    def save(self) -> dict[str, Any]:
        """All that the frames to come depend on, as JSON has it."""
        tracker = self._tracker
        return {
            "last_id": self._last_id,
            "size": self._size,
            "classes": list(self._class_of.items()),
            "lanes": list(self._lanes),
            "time_s": tracker._last_timestamp,
            "frame_count": getattr(tracker, "frame_count", None),
            "tracks": [tracklet_state(one) for one in tracker.tracks],
        }

    def _restore(self, saved: dict[str, Any]) -> None:
        self._last_id = saved["last_id"]
        self._size = tuple(saved["size"]) if saved["size"] is not None else None
        self._class_of = dict(saved["classes"])
        self._lanes = {name: number for number, name in enumerate(saved["lanes"])}
        tracker = self._tracker
        tracker._last_timestamp = saved["time_s"]
        if saved["frame_count"] is not None:
            tracker.frame_count = saved["frame_count"]
        for one in saved["tracks"]:
            tracker.tracks.append(self._tracklet())
            restore_tracklet(tracker.tracks[-1], one)

    def _made(self) -> Any:
        """The package's tracker, which counts ids by those of the video."""
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


def _package() -> Any:
    from pipeline.results.optional import load

    return load("trackers", PACKAGE, "the configuration's tracker")


def _inside(
    box: np.ndarray, offset: float, size: tuple[int, int]
) -> tuple[float, float, float, float] | None:
    """The part of a box that lies in the picture, which begins at x = `offset`; None: none does."""
    x1, y1, x2, y2 = box.tolist()
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        return None
    x1, x2 = max(x1 - offset, 0.0), min(x2 - offset, size[0])
    y1, y2 = max(y1, 0.0), min(y2, size[1])
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None
