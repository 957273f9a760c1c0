"""A Rerun recording: pictures and boxes of every frame, on the timelines `frame` and `time`.

Each video is an entity, with `/picture`, `/boxes` (class names as labels, `score` beside them) and
`/embedding` below it.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.results.export.job import Counts, Job, folder_name
from pipeline.results.export.target import new_file
from pipeline.results.optional import load

if TYPE_CHECKING:
    from pipeline.ledger.frame import Frame

_MEDIA = {"jpg": "image/jpeg", "png": "image/png"}


def export(job: Job) -> Counts:
    """Write the .rrd file. Frames that could not be decoded are not in it."""
    rerun = load("rerun", "rerun-sdk", "an export to Rerun")
    counts = Counts()
    videos = job.videos()
    with new_file(job.path, job.overwrite) as path:
        recording = rerun.RecordingStream("frameledger")
        recording.save(path)
        try:
            for frame, picture in job.frames(counts):
                entity = folder_name(frame.video_id, videos.uri(frame.video_id))
                recording.set_time("frame", sequence=frame.frame_index)
                recording.set_time("time", duration=frame.row["pts_s"])
                if picture is not None:
                    media = _MEDIA[str(job.pictures)]
                    image = rerun.EncodedImage(contents=picture, media_type=media)
                    recording.log(f"{entity}/picture", image)
                # Also where there are none: a viewer keeps what it was told last.
                recording.log(f"{entity}/boxes", *_boxes(rerun, frame))
                if frame.embedding is not None:
                    values = rerun.AnyValues(embedding=frame.embedding)
                    recording.log(f"{entity}/embedding", values)
        finally:
            recording.flush()
            recording.disconnect()
    return counts


def _boxes(rerun: ModuleType, frame: Frame) -> tuple[Any, Any]:
    rows = frame.detections
    sides = [rows.column(side).to_numpy() for side in ("x1", "y1", "x2", "y2")]
    boxes = rerun.Boxes2D(
        array=np.stack(sides, axis=1),
        array_format=rerun.Box2DFormat.XYXY,
        labels=rows.column("class_name").to_pylist(),
        class_ids=rows.column("class_id").to_numpy(),
    )
    return boxes, rerun.AnyValues(score=rows.column("score").to_numpy())
