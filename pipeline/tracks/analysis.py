"""What names the tracks of a configuration: all that they depend on."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config import Config
from pipeline.records import Analysis


def tracks_of(config: Config, analyses: Sequence[Analysis]) -> Analysis | None:
    """The analysis of a configuration's tracks, None where it names no tracker.

    Args:
        analyses: those of the configuration that look at pictures, frames and detections among
            them.

    Raises UsageError where the tracker's package is not installed.
    """
    if config.tracker is None:
        return None
    from importlib.metadata import version

    from pipeline.results.optional import load
    from pipeline.tracks.light import PACKAGE, SEMANTICS

    load("trackers", PACKAGE, "the configuration's tracker")
    by_table = {analysis.table: analysis.fingerprint for analysis in analyses}
    identity = {
        **config.tracker.model_dump(),
        "semantics": SEMANTICS,
        "trackers": version("trackers"),
        "frames": by_table["frames"],
        "detections": by_table["detections"],
    }
    return Analysis("tracker", "tracks", identity)


def bases_of(tracks: Analysis) -> tuple[str, str]:
    """Fingerprints of the frames and of the detections that tracks are made of."""
    return str(tracks.identity["frames"]), str(tracks.identity["detections"])
