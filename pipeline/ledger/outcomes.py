"""Rows of `videos`, `failures` and `shards`, and the clock that orders them."""

from __future__ import annotations

import time
from collections.abc import Iterable

import pyarrow as pa

from pipeline.ledger.remap import owned_range
from pipeline.ledger.schema import plain
from pipeline.records import Failure, ShardEnd, ShardTask, VideoOutcome, shard_id

QUARANTINED = "quarantined: "
"""How the reason of a failure begins that stands for a clip which was given up within a shard
that landed. Later analyses of the same frames leave these clips out too."""


class Clock:
    """Microseconds since 1970, UTC, each later than the one before: the latest row counts."""

    def __init__(self) -> None:
        self._last_us = 0

    def now(self) -> int:
        self._last_us = max(time.time_ns() // 1000, self._last_us + 1)
        return self._last_us


def video_row(
    outcome: VideoOutcome, analyses: Iterable[str], run_id: str, recorded_us: int
) -> pa.Table:
    """One row of `videos`; what only an index can tell is null where there is none."""
    source, index = outcome.source, outcome.index
    values: dict[str, object] = {
        "uri": source.uri,
        "stamp": source.stamp,
        "size_bytes": source.size_bytes,
        "status": outcome.status,
        "reason": outcome.reason,
        "analyses": sorted(analyses),
        "run_id": run_id,
        "recorded_at": recorded_us,
    }
    if index is not None:
        values |= {
            "video_id": index.video_id,
            "container": index.container,
            "codec": index.codec,
            "width": index.width,
            "height": index.height,
            "rotation": index.rotation,
            "stream_index": index.stream_index,
            "time_base": str(index.time_base),
            "frame_count": index.frame_count,
            "duration_s": index.duration_s,
        }
    return _row("videos", values)


def failure_row(failure: Failure, run_id: str, recorded_us: int) -> pa.Table:
    """One row of `failures`."""
    values = vars(failure) | {"run_id": run_id, "recorded_at": recorded_us}
    return _row("failures", values)


def lost_frames(task: ShardTask, end: ShardEnd, frames: str) -> list[Failure]:
    """The frames of a whole shard that have no rows of their own: a failure for each clip that
    was quarantined, and one for each range of frames that could not be decoded and that the shard
    owns (its windows may reach into the next one).

    Args:
        frames: fingerprint of the frames analysis, whose clips are quarantined.
    """
    source, video_id = task.source, task.index.video_id
    lost = []
    for clip, one in task.quarantined_clips():
        if not one.known:
            begin, final = task.own_range(clip)
            failure = Failure(
                source.uri,
                one.stage,
                f"{QUARANTINED}{one.reason}",
                stamp=source.stamp,
                video_id=video_id,
                analysis=frames,
                first_frame=begin,
                last_frame=final,
                attempts=one.attempts,
            )
            lost.append(failure)
    first, last = owned_range(task)
    for start, stop in end.missing:
        if start <= last and stop > first:
            failure = Failure(
                source.uri,
                "decode",
                end.missing_reason,
                stamp=source.stamp,
                video_id=video_id,
                first_frame=max(start, first),
                last_frame=min(stop - 1, last),
                attempts=end.attempt,
            )
            lost.append(failure)
    return lost


def shard_row(
    task: ShardTask, fingerprint: str, rows: int, run_id: str, state: str | None = None
) -> pa.Table:
    """One row of `shards`: the shard in one analysis, with the rows that it has there."""
    first, last = owned_range(task)
    values = {
        "shard_id": shard_id(fingerprint, task.index.video_id, task.shard.shard_index),
        "video_id": task.index.video_id,
        "analysis": fingerprint,
        "shard_index": task.shard.shard_index,
        "shard_count": task.shard.shard_count,
        "first_frame": first,
        "last_frame": last,
        "frames": task.frame_count,
        "rows": rows,
        "state": state,
        "run_id": run_id,
    }
    return _row("shards", values)


def _row(table: str, values: dict[str, object]) -> pa.Table:
    schema = plain(table)
    return pa.table([pa.array([values.get(f.name)], f.type) for f in schema], schema=schema)
