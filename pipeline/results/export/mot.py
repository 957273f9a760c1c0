"""Tracks as MOTChallenge has them: a text file for each video, a line for each box of a track.

FRAME,ID,LEFT,TOP,WIDTH,HEIGHT,CONFIDENCE,CLASS,-1,-1

Frames count from 1 (frame_index + 1, sampled or not), pixels as in the tables, where the upper
left corner is 0, 0. The class is the model's number; evaluators take the place for a coordinate of
3D, which they do not read. Frames in which a track is lost have no line.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import UsageError
from pipeline.ledger.analyses import newest_analyses
from pipeline.results.export.job import Counts, Job, folder_name
from pipeline.results.export.target import new_folder
from pipeline.results.select import select
from pipeline.results.where import video_ids

_COLUMNS = ["frame_index", "track_id", "x1", "y1", "x2", "y2", "score", "class_id", "state"]


def export(job: Job) -> Counts:
    """Write the folder. Raises UsageError where no tracker has run on the output."""
    ledger = job.ledger
    if "tracker" not in newest_analyses(ledger.analyses()):
        raise UsageError(
            f"{ledger.output}: no tracks to export; run with a tracker in the configuration"
        )
    counts, videos = Counts(), job.videos()
    ids = video_ids(ledger, job.where.video)
    if ids is None:
        ids = sorted({v for v in ledger.videos().column("video_id").to_pylist() if v})
    with new_folder(job.path, job.overwrite) as folder:
        for video_id in ids:
            rows = select(ledger, "tracks", replace(job.where, video=video_id), _COLUMNS)
            rows = rows.filter(pc.equal(rows.column("state"), "tracked"))
            if rows.num_rows:
                _write(folder / f"{folder_name(video_id, videos.uri(video_id))}.txt", rows)
                counts.videos += 1
                counts.frames += pc.count_distinct(rows.column("frame_index")).as_py()
                counts.boxes += rows.num_rows
        (folder / "about.json").write_text(json.dumps(job.about(), indent=2), encoding="utf-8")
    return counts


def _write(path: Path, rows: pa.Table) -> None:
    columns = (column.to_pylist() for column in rows.columns)
    with path.open("w", encoding="ascii") as file:
        for frame, track, x1, y1, x2, y2, score, class_id, _ in zip(*columns, strict=True):
            file.write(
                f"{frame + 1},{track},{x1:.3f},{y1:.3f},{x2 - x1:.3f},{y2 - y1:.3f},{score:.4f},"
                f"{class_id},-1,-1\n"
            )
