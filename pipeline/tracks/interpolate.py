"""Boxes of lost frames between two detections: on the line between those, once both are known.

The table keeps what a tracker could know at each frame (a predicted box, state `lost`), so that
its rows do not depend on where shards end; what came after is used here, by readers.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_SIDES = ("x1", "y1", "x2", "y2")


def interpolated(rows: pa.Table) -> pa.Table:
    """Rows of `tracks` in the same order, in which no track is lost.

    A lost row between two tracked ones of its track gets the box on the line between theirs, by
    pts_s, and the state `interpolated`; one that no tracked row follows is left out.

    Args:
        rows: with the columns video_id, track_id, frame_index, pts_s, state and the sides.
    """
    if not rows.num_rows:
        return rows
    video = rows.column("video_id").combine_chunks().dictionary_encode().indices.to_numpy()
    track = rows.column("track_id").to_numpy()
    order = np.lexsort((rows.column("frame_index").to_numpy(), track, video))
    keys = np.stack([video[order], track[order]], axis=1)
    tracked = pc.equal(rows.column("state"), "tracked").to_numpy()[order]
    places = np.arange(len(order))
    before = np.maximum.accumulate(np.where(tracked, places, -1))
    after = np.minimum.accumulate(np.where(tracked, places, len(order))[::-1])[::-1]
    inside = (before >= 0) & (after < len(order))
    inside[inside] = (keys[before[inside]] == keys[places[inside]]).all(axis=1)
    inside[inside] = (keys[after[inside]] == keys[places[inside]]).all(axis=1)
    changed = np.flatnonzero(inside & ~tracked)
    low, high = order[before[changed]], order[after[changed]]
    times = rows.column("pts_s").to_numpy()
    share = (times[order[changed]] - times[low]) / (times[high] - times[low])
    for side in _SIDES:
        values = rows.column(side).to_numpy().astype(np.float64)
        values[order[changed]] = values[low] + share * (values[high] - values[low])
        rows = _with(rows, side, pa.array(values.astype(np.float32)))
    states = np.array(rows.column("state").to_pylist(), dtype=object)
    states[order[changed]] = "interpolated"
    rows = _with(rows, "state", pa.array(states, pa.string()))
    keep = np.zeros(len(order), bool)
    keep[order] = tracked | inside
    return rows.filter(pa.array(keep))


def _with(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), values)
