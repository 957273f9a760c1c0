"""Since when superseded rows have been so: for `gc --keep`, which lets them be for a while.

An analysis is superseded from the moment another of its name is wanted; one that others lie on
(frames, and the detections of tracks) once the last of those is. A content is so from the moment
that the last of its files is recorded with another. Where the first successor of a content is
forgotten the next one counts: rows stay longer than asked for, never shorter.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ledger.analyses import RecordedAnalysis, based_on, newest_analyses
from pipeline.ledger.keys import keys_of, order_of

_DEPTH = {"tracks": 0, "frames": 2}
"""Of the tables that others lie on, or that lie on others."""


def analyses_since(known: Iterable[RecordedAnalysis]) -> dict[str, float]:
    """Seconds since 1970 by fingerprint, of analyses that are not the newest of their name."""
    known = list(known)
    newest = newest_analyses(known)
    since: dict[str, float] = {}
    # Those that others lie on wait for these, and frames, which all lie on, for all.
    for analysis in sorted(known, key=lambda a: _DEPTH.get(a.table, 1)):
        successor = newest.get(analysis.name)
        if successor is None or successor.fingerprint == analysis.fingerprint:
            continue
        upon = (a for a in known if analysis.fingerprint in based_on(a))
        ends = [since[a.fingerprint] for a in upon if a.fingerprint in since]
        own = analysis.superseded_at or successor.wanted_at
        since[analysis.fingerprint] = max([_seconds(own), *ends])
    return since


def contents_since(rows: pa.Table, contents: list[str]) -> dict[str, float]:
    """Seconds since 1970 by video_id.

    Args:
        rows: of `videos`: uri, video_id, recorded_at.
        contents: video_ids that are superseded.
    """
    rows = rows.filter(pc.is_valid(rows.column("video_id")))
    keys = keys_of(rows.column("uri"))
    times = rows.column("recorded_at").cast(pa.int64()).to_numpy()
    order = order_of(keys, times)
    keys, times = keys[order], times[order]
    ids = rows.column("video_id").take(pa.array(order))
    old = pc.is_in(ids, pa.array(contents, pa.string())).to_numpy(zero_copy_only=False)
    # A row of an old content that the next one of the same file replaces by another.
    replaced = np.flatnonzero(old[:-1] & (keys[:-1] == keys[1:]))
    before, after = ids.take(pa.array(replaced)), ids.take(pa.array(replaced + 1))
    replaced = replaced[pc.not_equal(before, after).to_numpy(zero_copy_only=False)]
    ends: dict[str, float] = {}
    for at in replaced.tolist():
        video_id = ids[at].as_py()
        ends[video_id] = max(ends.get(video_id, 0.0), times[at + 1] / 1e6)
    return ends


def _seconds(iso: str) -> float:
    return datetime.datetime.fromisoformat(iso).timestamp()
