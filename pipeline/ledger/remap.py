"""Clip-local results to global rows: pure functions, vectorised, without a row lost or doubled.

    sampled   0  4  8 12 16 20 24 28 ...        frame indices (here every 4th frame)
    position  0  1  2  3  4  5  6  7 ...        what an analyzer's rows name
    clips     [own........)[own......)          each position owned by exactly one clip
    rows      position 5 -> frame_index 20, its pts, its time

Whatever does not add up raises ValueError with the ids: such rows would be wrong, and a shard is
better redone or given up than wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.ledger.schema import DATA_COLUMNS, plain
from pipeline.records import Analysis, ClipResult, ShardEnd, ShardTask


@dataclass(frozen=True)
class _Decoded:
    """The owned positions of a shard, and which of them were decoded."""

    positions: np.ndarray
    """int64 (n,): all owned positions, ascending."""
    ok: np.ndarray
    """bool (n,)"""
    sizes: np.ndarray
    """int32 (n, 2): width and height, the video's own where a frame was not decoded."""
    clip_index: np.ndarray
    """int64 (n,)"""


def remap(
    task: ShardTask,
    results: Iterable[ClipResult],
    end: ShardEnd,
    analyses: Mapping[str, Analysis],
    run_id: str,
) -> dict[str, pa.Table]:
    """The rows of a whole shard, per fingerprint of `task.analyses`.

    Args:
        task: what was to be done.
        results: one per clip of the shard, in any order.
        end: what the decoder said at its end.
        analyses: by fingerprint; those of the task among them.
        run_id: is written into every row.

    Returns:
        For each fingerprint a table in the schema of its Delta table, sorted by frame_index.

    Raises ValueError where clips, frames or rows do not add up to exactly the shard.
    """
    ordered = _in_order(task, list(results), end)
    decoded = _account(task, ordered, end)
    tables = {}
    for fingerprint in task.analyses:
        analysis = analyses.get(fingerprint)
        if analysis is None:
            raise ValueError(f"shard {task.key}: unknown analysis {fingerprint}")
        if analysis.table == "frames":
            columns = _frame_columns(task, decoded)
        else:
            columns = _analysis_columns(task, ordered, decoded, analysis)
        tables[fingerprint] = with_ids(columns, task, analysis, run_id)
    return tables


def owned_range(task: ShardTask) -> tuple[int, int]:
    """First and last frame index (inclusive) that the shard owns."""
    frames = task.frames_of(task.shard.own_start, task.shard.own_stop)
    return int(frames[0]), int(frames[-1])


def _in_order(task: ShardTask, results: list[ClipResult], end: ShardEnd) -> list[ClipResult]:
    """The results in the order of their clips; every clip of the shard exactly once."""
    items: list[ClipResult | ShardEnd] = [*results, end]
    strangers = {item.task_key for item in items} - {task.key}
    if strangers:
        raise ValueError(f"shard {task.key}: results of other shards {sorted(strangers)}")
    attempts = {item.attempt for item in items}
    if len(attempts) != 1:
        raise ValueError(f"shard {task.key}: results of several attempts {sorted(attempts)}")
    planned = list(task.shard.clips)
    ordered = sorted(results, key=lambda result: result.clip.clip_index)
    clips = [result.clip for result in ordered]
    if clips != planned:
        wanted, got = [c.clip_index for c in planned], [c.clip_index for c in clips]
        if wanted != got:
            raise ValueError(f"shard {task.key}: clips {got} arrived, {wanted} were planned")
        raise ValueError(f"shard {task.key}: clips have other windows than planned")
    if end.clip_count != len(planned):
        raise ValueError(
            f"shard {task.key}: the decoder counts {end.clip_count} clips, not {len(planned)}"
        )
    return ordered


def _account(task: ShardTask, ordered: list[ClipResult], end: ShardEnd) -> _Decoded:
    """Hold every owned frame against what was decoded and what was declared missing."""
    for result in ordered:
        _check_positions(task, result)
    start, stop = task.shard.own_start, task.shard.own_stop
    positions = np.arange(start, stop, dtype=np.int64)
    here = np.concatenate([result.positions for result in ordered]).astype(np.int64)
    ok = np.zeros(len(positions), dtype=bool)
    ok[here - start] = True
    frames = task.frames_of(start, stop)
    missing = _within(frames, end.missing)
    for clip, _ in task.quarantined_clips():
        missing[clip.own_start - start : clip.own_stop - start] = True
    _refuse(task, frames[~ok & ~missing], "neither decoded nor declared missing")
    _refuse(task, frames[ok & missing], "both decoded and declared missing")
    sizes = np.empty((len(positions), 2), dtype=np.int32)
    sizes[:] = (task.index.width, task.index.height)
    sizes[here - start] = np.concatenate([result.sizes for result in ordered])
    lengths = [clip.own_stop - clip.own_start for clip in task.shard.clips]
    numbers = np.array([clip.clip_index for clip in task.shard.clips], dtype=np.int64)
    return _Decoded(positions, ok, sizes, np.repeat(numbers, lengths))


def _check_positions(task: ShardTask, result: ClipResult) -> None:
    clip, positions = result.clip, result.positions
    where = f"shard {task.key} clip {clip.clip_index}"
    if len(result.sizes) != len(positions):
        raise ValueError(f"{where}: {len(result.sizes)} sizes for {len(positions)} frames")
    if not len(positions):
        return
    if np.any(np.diff(positions) <= 0):
        raise ValueError(f"{where}: positions repeat or do not ascend")
    if positions[0] < clip.own_start or positions[-1] >= clip.own_stop:
        raise ValueError(
            f"{where}: positions {int(positions[0])} to {int(positions[-1])} are not within its "
            f"own [{clip.own_start}, {clip.own_stop})"
        )


def _within(frames: np.ndarray, ranges: Iterable[tuple[int, int]]) -> np.ndarray:
    """bool per frame index: inside any of the half-open ranges."""
    inside = np.zeros(len(frames), dtype=bool)
    for start, stop in ranges:
        lo, hi = np.searchsorted(frames, [start, stop])
        inside[lo:hi] = True
    return inside


def _refuse(task: ShardTask, frames: np.ndarray, what: str) -> None:
    if len(frames):
        some = ", ".join(str(int(frame)) for frame in frames[:5])
        more = f" and {len(frames) - 5} more" if len(frames) > 5 else ""
        raise ValueError(f"shard {task.key}: frames {some}{more} {what}")


def _frame_columns(task: ShardTask, decoded: _Decoded) -> dict[str, pa.Array | np.ndarray]:
    frames = task.frames_of(task.shard.own_start, task.shard.own_stop)
    index = task.index
    at = np.searchsorted(index.keyframes, frames)
    last = max(len(index.keyframes) - 1, 0)
    is_keyframe = index.keyframes[np.minimum(at, last)] == frames
    status = pa.DictionaryArray.from_arrays(
        pa.array((~decoded.ok).astype(np.int8)), pa.array(["ok", "failed"])
    )
    return {
        "frame_index": frames,
        "pts": index.pts[frames],
        "pts_s": index.pts_seconds(index.pts[frames]),
        "is_keyframe": is_keyframe,
        "width": decoded.sizes[:, 0],
        "height": decoded.sizes[:, 1],
        "clip_index": decoded.clip_index,
        "status": status.cast(pa.string()),
    }


def _analysis_columns(
    task: ShardTask, ordered: list[ClipResult], decoded: _Decoded, analysis: Analysis
) -> dict[str, pa.Array | np.ndarray]:
    """The analyzer's columns, sorted by frame, with the frame's index and time beside them."""
    rows = _gather(task, ordered, analysis)
    positions = rows.column("position").to_numpy()
    where = f"shard {task.key} analysis {analysis.fingerprint} ({analysis.name})"
    order = np.argsort(positions, kind="stable")  # keeps the analyzer's order within a frame
    positions = positions[order]
    wanted = decoded.positions[decoded.ok]
    if analysis.table == "embeddings" and not np.array_equal(positions, wanted):
        raise ValueError(
            f"{where}: {len(positions)} embeddings for {len(wanted)} decoded frames, "
            "or not one for each"
        )
    rows = rows.take(pa.array(order)) if len(order) else rows
    frames = task.frames_of(task.shard.own_start, task.shard.own_stop)
    frames = frames[positions - task.shard.own_start]
    columns: dict[str, pa.Array | np.ndarray] = {
        "frame_index": frames,
        "pts_s": task.index.pts_seconds(task.index.pts[frames]),
    }
    if analysis.table == "detections":
        columns["detection_index"] = _numbered(positions).astype(np.int32)
    for name in DATA_COLUMNS[analysis.table].names:
        columns[name] = rows.column(name)
    return columns


def _gather(task: ShardTask, ordered: list[ClipResult], analysis: Analysis) -> pa.Table:
    """All clips' rows in one table of `position` and the analyzer's columns, types checked."""
    schema = DATA_COLUMNS[analysis.table]
    schema = schema.insert(0, pa.field("position", pa.int64()))
    parts = [schema.empty_table()]
    for result in ordered:
        where = f"shard {task.key} clip {result.clip.clip_index} analysis {analysis.fingerprint}"
        rows = result.rows.get(analysis.fingerprint)
        if rows is None:
            if len(result.positions):
                raise ValueError(f"{where}: no rows, though frames were decoded")
            continue
        lacking = [name for name in schema.names if name not in rows.column_names]
        if lacking:
            raise ValueError(f"{where}: columns {lacking} are missing")
        try:
            rows = rows.select(schema.names).cast(schema)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ValueError(f"{where}: columns of other types: {error}") from None
        if rows.column("position").null_count:
            raise ValueError(f"{where}: rows without a position")
        if not np.isin(rows.column("position").to_numpy(), result.positions).all():
            raise ValueError(f"{where}: rows of frames that the clip did not decode")
        parts.append(rows)
    return pa.concat_tables(parts)


def _numbered(keys: np.ndarray) -> np.ndarray:
    """0, 1, 2, ... within each run of equal keys: [7 7 7 9 9] -> [0 1 2 0 1]."""
    if not len(keys):
        return np.empty(0, dtype=np.int64)
    begins = np.flatnonzero(np.append([True], keys[1:] != keys[:-1]))
    lengths = np.diff(np.append(begins, len(keys)))
    return np.arange(len(keys)) - np.repeat(begins, lengths)


def with_ids(
    columns: Mapping[str, pa.Array | np.ndarray], task: ShardTask, analysis: Analysis, run_id: str
) -> pa.Table:
    """The columns in the order of the table's schema, with the ids that all rows share."""
    schema = plain(analysis.table)
    count = len(columns["frame_index"])
    shared = {
        "analysis": analysis.fingerprint,
        "run_id": run_id,
        "video_id": task.index.video_id,
    }
    ready = {name: pa.repeat(pa.scalar(value), count) for name, value in shared.items()}
    arrays = [ready.get(name, columns.get(name)) for name in schema.names]
    return pa.table(
        [array if isinstance(array, pa.ChunkedArray) else pa.array(array) for array in arrays],
        schema=schema,
    )
