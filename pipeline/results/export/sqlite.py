"""One SQLite file: indexed tables, embeddings as BLOBs of little-endian float32.

Rows name their video by a number, which `videos` explains; the view `boxes` puts them together.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.results.export.job import Counts, Job
from pipeline.results.export.target import new_file

if TYPE_CHECKING:
    from pipeline.ledger.frame import FrameBatch

_TABLES = """
create table about (name text primary key, value text not null);
create table videos (
    video integer primary key, video_id text not null unique, uri text, status text,
    width integer, height integer, frame_count integer, duration_s real, time_base text
);
create table frames (
    video integer not null references videos, frame_index integer not null, pts integer not null,
    pts_s real not null, is_keyframe integer not null, width integer, height integer, status text,
    primary key (video, frame_index)
) without rowid;
create table detections (
    video integer not null references videos, frame_index integer not null,
    detection_index integer not null, x1 real, y1 real, x2 real, y2 real, score real,
    class_id integer, class_name text, mask text, keypoints text,
    primary key (video, frame_index, detection_index)
) without rowid;
create table embeddings (
    video integer not null references videos, frame_index integer not null, embedding blob not null
);
create view boxes as
    select uri, video_id, pts_s, detections.* from detections
    join frames using (video, frame_index) join videos using (video);
"""
_INDEXES = """
create unique index embeddings_frame on embeddings (video, frame_index);
create index detections_class on detections (class_name, score);
create index frames_time on frames (video, pts_s);
analyze;
"""
_BULK = "pragma journal_mode = off; pragma synchronous = off; pragma locking_mode = exclusive;"
"""For a file that nobody has seen yet, and that is thrown away where writing it fails."""


def export(job: Job) -> Counts:
    """Write the file; `mask` and `keypoints` are JSON."""
    counts = Counts()
    known = job.videos()
    numbers: dict[str, int] = {}
    with new_file(job.path, job.overwrite) as path, closing(sqlite3.connect(path)) as database:
        database.executescript(_BULK + _TABLES)
        about = [(name, json.dumps(value)) for name, value in job.about().items()]
        database.executemany("insert into about values (?, ?)", about)
        for batch in job.batches():
            for video_id in batch.frames.column("video_id").unique().to_pylist():
                if video_id not in numbers:
                    numbers[video_id] = len(numbers) + 1
                    database.execute(
                        f"insert into videos values ({_marks(9)})",
                        _video(numbers[video_id], video_id, known.row(video_id)),
                    )
            _add(database, batch, numbers)
            counts.frames += len(batch)
            counts.boxes += len(batch.boxes)
            counts.embeddings += len(batch.vectors)
        database.commit()
        database.executescript(_INDEXES)
    counts.videos = len(numbers)
    return counts


def _video(number: int, video_id: str, row: dict[str, Any]) -> tuple[object, ...]:
    names = ("uri", "status", "width", "height", "frame_count", "duration_s", "time_base")
    return (number, video_id, *(row.get(name) for name in names))


def _add(database: sqlite3.Connection, batch: FrameBatch, numbers: dict[str, int]) -> None:
    names = ("frame_index", "pts", "pts_s", "is_keyframe", "width", "height", "status")
    rows = _rows(batch.frames, numbers, names)
    database.executemany(f"insert into frames values ({_marks(8)})", rows)
    names = ("frame_index", "detection_index", "x1", "y1", "x2", "y2", "score")
    found = _rows(batch.boxes, numbers, (*names, "class_id", "class_name", "mask", "keypoints"))
    rows = ((*row[:-2], _json(row[-2]), _json(row[-1])) for row in found)
    database.executemany(f"insert into detections values ({_marks(12)})", rows)
    there = batch.frames.filter(pa.array(batch.vector_of >= 0))
    vectors = (vector.tobytes() for vector in batch.vectors.astype("<f4", copy=False))
    keys = _rows(there, numbers, ("frame_index",))
    rows = ((*key, vector) for key, vector in zip(keys, vectors, strict=True))
    database.executemany("insert into embeddings values (?, ?, ?)", rows)


def _rows(
    table: pa.Table, numbers: dict[str, int], names: tuple[str, ...]
) -> Iterable[tuple[Any, ...]]:
    videos = [numbers[video_id] for video_id in table.column("video_id").to_pylist()]
    return zip(videos, *(table.column(name).to_pylist() for name in names), strict=True)


def _marks(count: int) -> str:
    return ", ".join("?" * count)


def _json(value: object) -> str | None:
    return json.dumps(value) if value is not None else None
