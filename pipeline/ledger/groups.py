"""Ranges of video_id that a check can hold in memory, one after another."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipeline.ledger.scan import read_table


def groups_of(indexes: ds.Dataset, most: int) -> Iterator[tuple[str | None, str | None]]:
    """Bounds (above, up to) on video_id that cover all ids there may be, `most` frames each."""
    rows = read_table(indexes, ["video_id", "frame_count"]).sort_by("video_id")
    ids = rows.column("video_id")
    frames = np.cumsum(rows.column("frame_count").to_numpy())
    low: str | None = None
    done = 0
    while len(frames) and frames[-1] - done > most:
        at = max(int(np.searchsorted(frames, done + most, "right")) - 1, 0)
        if low is not None and ids[at].as_py() <= low:
            at = int(np.searchsorted(frames, done, "right"))  # one video longer than a group
        if at >= len(ids) - 1:
            break
        high = ids[at].as_py()
        yield low, high
        low, done = high, int(frames[at])
    yield low, None


def ids_between(low: str | None, high: str | None) -> pc.Expression | None:
    """What finds the rows of one group, None for all."""
    wanted = None if low is None else pc.field("video_id") > low
    if high is not None:
        below = pc.field("video_id") <= high
        wanted = below if wanted is None else wanted & below
    return wanted
