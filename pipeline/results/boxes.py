"""The boxes to be shown on each frame of a video, read in the order of the frames.

Between two sampled frames nothing is known; what is shown there is a choice::

    frames      0  1  2  3  4  5  6  7
    sampled     x        x        x
    last        0  0  0  3  3  3  6  6      whose boxes are shown
    none        0  .  .  3  .  .  6  .
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ledger.analyses import newest_analyses

if TYPE_CHECKING:
    from pipeline.ledger.reader import Ledger

Between = Literal["last", "none"]

_WINDOW = 256
"""Sampled frames whose boxes are held at once: with a hundred masks each about 25 MB."""
_COLUMNS = ("frame_index", "x1", "y1", "x2", "y2", "score", "class_id", "class_name")


@dataclass(frozen=True)
class BoxChoice:
    """Which boxes are wanted."""

    classes: tuple[str, ...] = ()
    """Names; all where empty."""
    min_score: float = 0.0
    masks: bool = True
    """Read the masks as well."""
    between: Between = "last"
    tracks: bool = False
    """The boxes of tracks, where they are not lost, in place of all detections."""

    def filter(self) -> pc.Expression:
        """What a row of `detections`, or of `tracks`, has to be."""
        # The column is float32: 0.9 has to mean the 0.9 that is in it.
        wanted = pc.field("score") >= pa.scalar(self.min_score, pa.float32())
        return wanted & pc.field("class_name").isin(self.classes) if self.classes else wanted

    @property
    def columns(self) -> list[str]:
        more = ["track_id"] if self.tracks else []
        return [*_COLUMNS, *more, "mask"] if self.masks else [*_COLUMNS, *more]

    @property
    def table(self) -> str:
        return "tracks" if self.tracks else "detections"


class Boxes:
    """Rows of `detections` for each frame of one video, of the newest detector; or of `tracks`, of
    the newest tracker."""

    def __init__(self, ledger: Ledger, video_id: str, choice: BoxChoice | None = None) -> None:
        self._ledger = ledger
        self._video_id = video_id
        self._choice = choice or BoxChoice()
        newest = newest_analyses(ledger.analyses())
        self._detector = newest.get("tracker" if self._choice.tracks else "detector")
        frames = newest["frames"].fingerprint if "frames" in newest else None
        if self._detector is not None:
            # The frames that this detector looked at, which the newest run may not have been.
            frames = str(self._detector.identity.get("frames", frames))
        self.sampled = self._sampled(frames)
        """int64, ascending: the frames that were looked at."""
        self._window = (0, 0)
        self._rows: pa.Table | None = None
        self._at = np.empty(0, np.int64)
        self._last: tuple[int, list[dict[str, Any]]] = (-1, [])

    @property
    def has_detector(self) -> bool:
        return self._detector is not None

    def on(self, frame_index: int) -> list[dict[str, Any]]:
        """The rows to be shown on a frame; cheap where frames are asked for in order."""
        place = int(np.searchsorted(self.sampled, frame_index, side="right")) - 1
        if place < 0 or self._detector is None:
            return []
        shown = int(self.sampled[place])
        if shown != frame_index and self._choice.between == "none":
            return []
        if self._last[0] != shown:
            self._last = shown, self._of(place, shown)
        return self._last[1]

    def classes(self) -> list[str]:
        """Names of all classes that the detector found in the video."""
        if self._detector is None:
            return []
        columns, analysis = ["class_name"], self._detector.fingerprint
        rows = self._table(self._choice.table, columns, self._mine, analysis)
        return sorted(pc.unique(rows.column("class_name")).to_pylist())

    def _of(self, place: int, shown: int) -> list[dict[str, Any]]:
        if self._rows is None or not self._window[0] <= place < self._window[1]:
            self._load(place)
        assert self._rows is not None
        start, stop = np.searchsorted(self._at, [shown, shown + 1])
        return self._rows.slice(start, stop - start).to_pylist()

    def _load(self, place: int) -> None:
        assert self._detector is not None
        self._window = place, min(place + _WINDOW, len(self.sampled))
        frame = pc.field("frame_index")
        first, last = (int(self.sampled[at]) for at in (place, self._window[1] - 1))
        wanted = self._mine & (frame >= first) & (frame <= last) & self._choice.filter()
        columns = self._choice.columns
        rows = self._table(self._choice.table, columns, wanted, self._detector.fingerprint)
        self._rows = rows.sort_by("frame_index")
        self._at = self._rows.column("frame_index").to_numpy()

    def _sampled(self, frames: str | None) -> np.ndarray:
        if frames is None:
            return np.empty(0, np.int64)
        there = self._mine & (pc.field("status") == "ok")
        rows = self._table("frames", ["frame_index"], there, frames)
        return np.sort(rows.column("frame_index").to_numpy())

    @property
    def _mine(self) -> pc.Expression:
        return pc.field("video_id") == self._video_id

    def _table(
        self, name: str, columns: Sequence[str], wanted: pc.Expression, analysis: str
    ) -> pa.Table:
        # A content that its file no longer has can still be asked for by its video_id.
        return self._ledger.table(name, columns, wanted, analysis, current=False)
