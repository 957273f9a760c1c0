"""What a report says of tracks: how many, how long, of which classes, how much of them is lost.

Read a few videos at a time; what is kept grows with the number of classes and of runs only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.tracks.summary import Summaries

if TYPE_CHECKING:
    from pipeline.ledger.reader import Ledger


@dataclass
class TrackFigures:
    """Of some tracks together."""

    tracks: int = 0
    total_s: float = 0.0
    """Of each from its first to its last detection, summed."""
    longest_s: float = 0.0
    frames: int = 0
    """With a detection."""
    lost_frames: int = 0
    """Between them, without one."""

    def add(self, row: dict[str, Any]) -> None:
        """Count a track, a row of `tracks.summary.SUMMARY`."""
        length_s = row["last_s"] - row["first_s"]
        self.tracks += 1
        self.total_s += length_s
        self.longest_s = max(self.longest_s, length_s)
        self.frames += row["frames"]
        self.lost_frames += row["lost_frames"]

    @property
    def mean_s(self) -> float:
        return self.total_s / self.tracks if self.tracks else 0.0

    @property
    def lost(self) -> float:
        """Share, 0 to 1, of the frames from first to last detection that have none."""
        within = self.frames + self.lost_frames
        return self.lost_frames / within if within else 0.0


@dataclass(frozen=True)
class TrackCounts:
    """Tracks of all current videos, or of one."""

    every: TrackFigures = field(default_factory=TrackFigures)
    by_class: dict[tuple[int, str], TrackFigures] = field(default_factory=dict)
    """By (class_id, class_name)."""
    by_run: dict[str, TrackFigures] = field(default_factory=dict)
    """By the run that wrote their first detection."""

    def add(self, row: dict[str, Any]) -> None:
        """Count a track, a row of `tracks.summary.SUMMARY`."""
        of_class = row["class_id"], row["class_name"]
        self.every.add(row)
        self.by_class.setdefault(of_class, TrackFigures()).add(row)
        self.by_run.setdefault(row["run_id"], TrackFigures()).add(row)

    @property
    def classes(self) -> list[tuple[int, str, TrackFigures]]:
        """(class_id, class_name, figures), the most frequent first."""
        order = sorted(self.by_class, key=lambda one: (-self.by_class[one].tracks, one))
        return [(*one, self.by_class[one]) for one in order]


def count_tracks(ledger: Ledger, video_id: str | None = None) -> TrackCounts:
    """Of the newest tracker: of a video, of all that are current where it is None."""
    found, summaries = TrackCounts(), Summaries(ledger)
    for rows in summaries.each(None if video_id is None else [video_id], embeddings=False):
        for row in rows.drop_columns(["embedding"]).to_pylist():
            found.add(row)
    return found
