"""What names the tracks of a configuration: all that they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.config import Config
from pipeline.config_trackers import ByteTrackConfig, OCSortConfig, Sam2Config
from pipeline.records import Analysis

if TYPE_CHECKING:
    from pipeline.tracks.prompts import PromptSet

_WITHOUT_EFFECT = {"model", "revision", "offload", "prompts"}
"""Keys of SAM 2 that name what is known by its content, or change no row."""
_OF_PARALLEL = {"parallel", "overlap_frames"}
"""Those that say nothing where shards are followed one after the other."""


def tracks_of(config: Config, analyses: Sequence[Analysis]) -> Analysis | None:
    """The analysis of a configuration's tracks, None where it names no tracker.

    Args:
        analyses: those of the configuration that look at pictures, frames and detections among
            them.

    Raises UsageError where the tracker's package is not installed, or its file of prompts is none;
    ConfigError where its model cannot be found.
    """
    if config.tracker is None:
        return None
    by_table = {analysis.table: analysis.fingerprint for analysis in analyses}
    sam2 = isinstance(config.tracker, Sam2Config)
    made = _of_pictures(config) if sam2 else _of_boxes(config.tracker)  # type: ignore[arg-type]
    identity = {**made, "frames": by_table["frames"], "detections": by_table["detections"]}
    return Analysis("tracker", "tracks", identity)


def _of_boxes(tracker: ByteTrackConfig | OCSortConfig) -> dict[str, object]:
    from importlib.metadata import version

    from pipeline.results.optional import load
    from pipeline.tracks.light import PACKAGE, SEMANTICS

    load("trackers", PACKAGE, "the configuration's tracker")
    return {
        **tracker.model_dump(),
        "semantics": SEMANTICS,
        "trackers": version("trackers"),
    }


def _of_pictures(config: Config) -> dict[str, object]:
    from pipeline.tracks.sam2 import SEMANTICS
    from pipeline.tracks.sam2_model import checkpoint_identity, checkpoint_of

    tracker = config.tracker
    assert isinstance(tracker, Sam2Config)
    prompts_of(config)
    without = _WITHOUT_EFFECT if tracker.parallel else _WITHOUT_EFFECT | _OF_PARALLEL
    return {
        **tracker.model_dump(exclude=without),
        **checkpoint_identity(checkpoint_of(tracker)),
        "prompts": prompts_sum(config),
        "semantics": SEMANTICS,
    }


def prompts_sum(config: Config) -> str | None:
    """The sha256 of what the prompts by hand say, whatever the layout of their file; None without.

    Raises UsageError as `prompts_of`.
    """
    from pipeline.tracks.prompts import load_prompts

    if not isinstance(config.tracker, Sam2Config) or config.tracker.prompts is None:
        return None
    rows = [row.model_dump(mode="json") for row in load_prompts(config.tracker.prompts)]
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def prompts_of(config: Config) -> PromptSet:
    """The prompts by hand of a configuration; none where it names no file.

    Raises UsageError naming the file, and what in it is wrong.
    """
    from pipeline.tracks.prompts import PromptSet, load_prompts

    if not isinstance(config.tracker, Sam2Config) or config.tracker.prompts is None:
        return PromptSet()
    from pipeline.analyzers.labels import class_ids

    return PromptSet(load_prompts(config.tracker.prompts), class_ids(config))


def bases_of(tracks: Analysis) -> tuple[str, str]:
    """Fingerprints of the frames and of the detections that tracks are made of."""
    return str(tracks.identity["frames"]), str(tracks.identity["detections"])
