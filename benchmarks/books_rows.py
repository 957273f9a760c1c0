"""The rows of a synthetic corpus: what runs would have written of videos that nobody decoded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

FOLDER_FILES = 1000
FRAMES, STRIDE = 100, 32
"""Frames of a video, and of how many one is sampled: 4 sampled frames, one shard."""
BOXES, DIMENSIONS = 2, 16
"""Boxes of a video, and floats of an embedding: the books do not read either."""
RUN_ID = "20260101T000000-000000"
START_US = 1_767_225_600_000_000


@dataclass(frozen=True)
class Block:
    """Consecutive videos that land in one commit of each table."""

    first: int
    names: list[str]
    ids: list[str]
    stamp: str

    def __len__(self) -> int:
        return len(self.names)


def name_of(corpus: Path, number: int) -> str:
    return f"{corpus}/{number // FOLDER_FILES:05d}/video-{number:08d}.mp4"


def video_id_of(number: int) -> str:
    return hashlib.sha256(b"video %d" % number).hexdigest()


def block_of(corpus: Path, videos: range) -> Block:
    return Block(
        videos.start,
        [name_of(corpus, number) for number in videos],
        [video_id_of(number) for number in videos],
        f"0:{START_US * 1000}",
    )


def ids_of(name: str, block: Block, prints: dict[str, str]) -> list[str]:
    """The ids that guard the commit."""
    from pipeline.records import shard_id

    if name == "videos":
        return [f"{RUN_ID}-{block.first}"]
    if name == "indexes":
        return [f"index-{video[:24]}" for video in block.ids]
    chosen = prints.values() if name == "shards" else [prints[name]]
    return [shard_id(fingerprint, video, 0) for fingerprint in chosen for video in block.ids]


def rows_of(name: str, block: Block, prints: dict[str, str]) -> pa.Table:
    """The rows of a table for the videos of a block, video by video."""
    from pipeline.ledger.schema import plain

    if name == "shards":
        return shards_of(block, prints)
    make = {"videos": _videos, "indexes": _indexes, "frames": _frames}
    if name in make:
        columns = make[name](block)
    else:
        columns = _detections(block) if name == "detections" else _embeddings(block)
    if name in prints:
        columns |= {"analysis": prints[name]}
    schema = plain(name)
    columns |= {"run_id": RUN_ID}
    length = max(len(v) for v in columns.values() if not isinstance(v, (str, int, float, bool)))
    return pa.table(
        [_array(columns.get(field.name), field.type, length) for field in schema], schema=schema
    )


def _array(value: object, kind: pa.DataType, length: int) -> pa.Array:
    if value is None or isinstance(value, (str, int, float, bool)):
        return pa.array([value], kind).take(pa.array(np.zeros(length, np.int64)))
    return value.cast(kind) if isinstance(value, pa.Array) else pa.array(value, kind)


def _lists(values: np.ndarray) -> pa.Array:
    """One list per row of a two-dimensional array."""
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel()))


def _videos(block: Block) -> dict[str, object]:
    times = START_US + block.first + np.arange(len(block))
    return {
        "video_id": block.ids,
        "uri": block.names,
        "stamp": block.stamp,
        "size_bytes": 0,
        "container": "mov,mp4",
        "codec": "h264",
        "width": 1280,
        "height": 720,
        "rotation": 0,
        "stream_index": 0,
        "time_base": "1/30000",
        "frame_count": FRAMES,
        "duration_s": FRAMES * 1001 / 30000,
        "status": "ok",
        "reason": "",
        "recorded_at": times,
    }


def _indexes(block: Block) -> dict[str, object]:
    return {
        "video_id": block.ids,
        "frame_count": FRAMES,
        "pts": _lists(np.tile(np.arange(FRAMES) * 1001, (len(block), 1))),
        "keyframes": _lists(np.tile(np.arange(0, FRAMES, 50), (len(block), 1))),
        "time_base": "1/30000",
        "stream_index": 0,
        "container": "mov,mp4",
        "codec": "h264",
        "pixel_format": "yuv420p",
        "width": 1280,
        "height": 720,
        "rotation": 0,
        "duration_s": FRAMES * 1001 / 30000,
        "exact_pts": True,
        "expected_frames": FRAMES,
        "damage": "",
    }


def _of_frames(block: Block) -> tuple[list[str], np.ndarray]:
    """(video_id, frame_index) of every sampled frame of the block."""
    sampled = np.arange(0, FRAMES, STRIDE)
    return list(np.repeat(block.ids, len(sampled))), np.tile(sampled, len(block))


def _frames(block: Block) -> dict[str, object]:
    ids, frames = _of_frames(block)
    return {
        "video_id": ids,
        "frame_index": frames,
        "pts": frames * 1001,
        "pts_s": frames * 1001 / 30000,
        "is_keyframe": frames % 50 == 0,
        "width": 1280,
        "height": 720,
        "clip_index": 0,
        "status": "ok",
    }


def _detections(block: Block) -> dict[str, object]:
    count = len(block) * BOXES
    return {
        "video_id": list(np.repeat(block.ids, BOXES)),
        "frame_index": np.zeros(count, np.int64),
        "pts_s": 0.0,
        "detection_index": np.tile(np.arange(BOXES, dtype=np.int32), len(block)),
        "x1": 10.0,
        "y1": 20.0,
        "x2": 110.0,
        "y2": 220.0,
        "score": 0.75,
        "class_id": 1,
        "class_name": "thing",
    }


def _embeddings(block: Block) -> dict[str, object]:
    ids, frames = _of_frames(block)
    values = np.full((len(ids), DIMENSIONS), DIMENSIONS**-0.5, np.float32)
    return {
        "video_id": ids,
        "frame_index": frames,
        "pts_s": frames * 1001 / 30000,
        "embedding": _lists(values),
    }


def shards_of(block: Block, prints: dict[str, str]) -> pa.Table:
    from pipeline.ledger.schema import plain
    from pipeline.records import shard_id

    schema = plain("shards")
    sampled = len(range(0, FRAMES, STRIDE))
    parts = []
    for name, fingerprint in prints.items():
        columns = {
            "shard_id": [shard_id(fingerprint, video, 0) for video in block.ids],
            "video_id": block.ids,
            "analysis": fingerprint,
            "shard_index": 0,
            "shard_count": 1,
            "first_frame": 0,
            "last_frame": (sampled - 1) * STRIDE,
            "frames": sampled,
            "rows": BOXES if name == "detections" else sampled,
            "state": None,
            "run_id": RUN_ID,
        }
        arrays = [_array(columns[field.name], field.type, len(block)) for field in schema]
        parts.append(pa.table(arrays, schema=schema))
    return pa.concat_tables(parts)
