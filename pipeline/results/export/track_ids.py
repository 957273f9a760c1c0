"""The tracks of boxes, for exports that write boxes frame by frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.compute as pc

from pipeline.ledger.analyses import newest_analyses

if TYPE_CHECKING:
    from pipeline.ledger.frame import Frame
    from pipeline.ledger.reader import Ledger

_AT_ONCE = 4096
"""Frames whose tracks are read together."""


class TrackIds:
    """Of the newest tracks, where they are made of the newest detections."""

    def __init__(self, ledger: Ledger) -> None:
        newest = newest_analyses(ledger.analyses())
        tracker, detector = newest.get("tracker"), newest.get("detector")
        made_of = tracker.identity.get("detections") if tracker is not None else None
        fits = tracker is not None and detector is not None and made_of == detector.fingerprint
        self._view = ledger.view("tracks", superseded=True) if fits else None
        self._video, self._until = "", 0
        self._ids: dict[tuple[int, int], int] = {}

    def of(self, frame: Frame) -> list[int | None]:
        """The track of each of the frame's boxes, None where it has none. Frames are asked for in
        the order of (video_id, frame_index)."""
        numbers = frame.detections.column("detection_index").to_pylist()
        if self._view is None:
            return [None] * len(numbers)
        if frame.video_id != self._video or frame.frame_index >= self._until:
            self._load(frame.video_id, frame.frame_index)
        return [self._ids.get((frame.frame_index, number)) for number in numbers]

    def _load(self, video_id: str, first: int) -> None:
        assert self._view is not None
        self._video, self._until = video_id, first + _AT_ONCE
        at = pc.field("frame_index")
        wanted = (pc.field("video_id") == video_id) & (at >= first) & (at < self._until)
        wanted &= pc.field("detection_index").is_valid()
        columns = ["frame_index", "detection_index", "track_id"]
        rows = self._view.also(wanted).table(columns)
        frames, numbers, ids = (rows.column(name).to_pylist() for name in columns)
        self._ids = dict(zip(zip(frames, numbers, strict=True), ids, strict=True))
