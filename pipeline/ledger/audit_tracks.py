"""The checks of `verify` on the tracks of one group of videos; see `audit`."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ledger.audit import FrameFacts, Group, Landed

_NONE = np.empty(0, np.int64)


def check_tracks(
    group: Group,
    analysis: str,
    detections: str,
    facts: FrameFacts,
    landed: Landed,
    batches: Iterable[pa.RecordBatch],
) -> None:
    """Rows of ok frames only, a track once in a frame, each detection in one track at most.

    Args:
        analysis, detections: fingerprints of the tracks, and of what they are made of.
        facts: of the frames analysis, whose detections `group` has seen.
    """
    parts = [(_NONE, _NONE, _NONE)]
    for batch in batches:
        keys = group.timed_keys("tracks", analysis, batch)
        at, found = facts.find(keys)
        orphan = (keys >= 0) & ~(found & facts.ok[at] if len(facts.ok) else found)
        group.report("tracks", analysis, keys[orphan], "track in a frame that is not ok")
        sound = (keys >= 0) & ~orphan
        if sound.any():
            few = batch.filter(pa.array(sound))
            group.check_sides("tracks", analysis, keys[sound], facts.size[at[sound]], few)
            _check_states(group, analysis, keys[sound], few)
        number = pc.fill_null(batch.column("detection_index"), -1).to_numpy()
        track = batch.column("track_id").to_numpy(zero_copy_only=False)
        here = keys >= 0
        parts.append((keys[here], track[here].astype(np.int64), number[here].astype(np.int64)))
    keys, track, number = (np.concatenate(column) for column in zip(*parts, strict=True))
    group.report("tracks", analysis, keys[track < 1], "track_id below 1")
    _check_once(group, analysis, keys, track, "track more than once in a frame")
    has = number >= 0
    _check_once(group, analysis, keys[has], number[has], "detection in more than one track")
    boxed, counts = group.boxes.get(detections, (_NONE, _NONE))
    place = np.minimum(np.searchsorted(boxed, keys[has]), max(len(boxed) - 1, 0))
    there = np.zeros(int(has.sum()), bool)
    if len(boxed):
        there = (boxed[place] == keys[has]) & (number[has] < counts[place])
    group.report("tracks", analysis, keys[has][~there], "detection_index of no detection")
    keys = np.sort(keys)
    inside = group.owned("tracks", analysis, np.unique(keys), landed)
    stray = np.setdiff1d(np.unique(keys), inside, assume_unique=True)
    group.report("tracks", analysis, stray, "track in a frame that no landed shard has")
    group.check_counts("tracks", analysis, keys, landed)


def _check_states(group: Group, analysis: str, keys: np.ndarray, batch: pa.RecordBatch) -> None:
    """A tracked row has a score, and a detection or a mask; a lost one has none of them."""
    tracked = pc.equal(batch.column("state"), "tracked").to_numpy(zero_copy_only=False)
    has = batch.column("detection_index").is_valid().to_numpy(zero_copy_only=False)
    scored = batch.column("score").is_valid().to_numpy(zero_copy_only=False)
    masked = batch.column("mask").is_valid().to_numpy(zero_copy_only=False)
    wrong = ((has | masked) != tracked) | (scored != tracked)
    group.report(
        "tracks", analysis, keys[wrong], "state is not that of a track with its detection or mask"
    )
    group.check_scores("tracks", analysis, keys[scored], batch.filter(pa.array(scored)))


def _check_once(
    group: Group, analysis: str, keys: np.ndarray, number: np.ndarray, what: str
) -> None:
    order = np.lexsort((number, keys))
    keys, number = keys[order], number[order]
    again = (keys[1:] == keys[:-1]) & (number[1:] == number[:-1])
    group.report("tracks", analysis, keys[1:][again], what)
