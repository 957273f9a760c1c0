"""FiftyOne: a folder that its importer of `LegacyFiftyOneDataset` reads, a sample a video.

    metadata.json              name, media type, info
    samples.json               a video each: its file, which stays where it is
    frames/VIDEO.json          its frames by number, which count from 1; relative xywh

Nothing of FiftyOne is needed to write it. What a label carries beyond a box is by FiftyOne's own
conventions: a mask is a boolean array of the box's own pixels, arrays are zlib-compressed .npy.

    fiftyone.Dataset.from_dir(PATH, dataset_type=fiftyone.types.LegacyFiftyOneDataset)
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from pipeline.results.export.job import Counts, Job, boxes_of, folder_name
from pipeline.results.export.target import new_folder
from pipeline.results.optional import load

if TYPE_CHECKING:
    from pipeline.ledger.frame import Frame


def export(job: Job) -> Counts:
    """Write the folder. Frames that could not be decoded are not in it."""
    counts = Counts()
    videos = job.videos()
    with new_folder(job.path, job.overwrite) as folder:
        (folder / "frames").mkdir()
        named: dict[str, str] = {}
        with ExitStack() as last:
            for frame, _ in job.frames(counts):
                if frame.video_id not in named:
                    last.close()
                    uri = videos.uri(frame.video_id)
                    name = f"frames/{folder_name(frame.video_id, uri)}.json"
                    named[frame.video_id] = name
                    file = last.enter_context(_frames_file(folder / name))
                else:
                    file.write(",\n")
                json.dump(str(frame.frame_index + 1), file)
                file.write(": ")
                json.dump(_frame(frame), file)
        samples = [_sample(videos.row(v), v, name) for v, name in named.items()]
        _dump(folder / "samples.json", {"samples": samples})
        about = {"name": job.path.name, "media_type": "video", "info": job.about()}
        _dump(folder / "metadata.json", about)
    return counts


def _sample(row: dict[str, Any], video_id: str, frames: str) -> dict[str, Any]:
    uri = row.get("uri") or video_id
    found: dict[str, Any] = {
        "filepath": uri if "://" in uri else os.path.abspath(uri),
        "tags": [],
        "video_id": video_id,
        "frames": frames,
    }
    if row.get("duration_s"):
        found["metadata"] = {
            "_cls": "VideoMetadata",
            "size_bytes": row["size_bytes"],
            "frame_width": row["width"],
            "frame_height": row["height"],
            "total_frame_count": row["frame_count"],
            "duration": row["duration_s"],
            "frame_rate": row["frame_count"] / row["duration_s"],
        }
    return found


def _frame(frame: Frame) -> dict[str, Any]:
    found: dict[str, Any] = {
        "frame_number": frame.frame_index + 1,
        "frame_index": frame.frame_index,
        "pts_s": frame.row["pts_s"],
    }
    width, height = frame.row["width"], frame.row["height"]
    boxes = boxes_of(frame)
    found["detections"] = {
        "_cls": "Detections",
        "detections": [_detection(box, width, height) for box in boxes],
    }
    if any(box["keypoints"] is not None for box in boxes):
        points = [_keypoint(box, width, height) for box in boxes if box["keypoints"] is not None]
        found["keypoints"] = {"_cls": "Keypoints", "keypoints": points}
    if frame.embedding is not None:
        found["embedding"] = _array(frame.embedding)
    return found


def _detection(box: dict[str, Any], width: int, height: int) -> dict[str, Any]:
    x1, y1, x2, y2 = (box[side] for side in ("x1", "y1", "x2", "y2"))
    found = {
        "_cls": "Detection",
        "label": box["class_name"],
        "bounding_box": [x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height],
        "confidence": box["score"],
        "class_id": box["class_id"],
    }
    if box["mask"] is not None:
        coco = load("pycocotools.mask", "pycocotools", "an export of masks to FiftyOne")
        whole = coco.decode(box["mask"])
        rows = slice(max(0, math.floor(y1)), max(math.floor(y1) + 1, math.ceil(y2)))
        columns = slice(max(0, math.floor(x1)), max(math.floor(x1) + 1, math.ceil(x2)))
        found["mask"] = _array(whole[rows, columns].astype(bool))
    return found


def _keypoint(box: dict[str, Any], width: int, height: int) -> dict[str, Any]:
    xs, ys, scores = (box["keypoints"][part::3] for part in range(3))
    points = [[x / width, y / height] for x, y in zip(xs, ys, strict=True)]
    label = box["class_name"]
    return {"_cls": "Keypoint", "label": label, "points": points, "confidence": scores}


def _array(values: np.ndarray) -> dict[str, Any]:
    file = io.BytesIO()
    np.save(file, values)
    packed = base64.b64encode(zlib.compress(file.getvalue(), 1)).decode()
    return {"$binary": {"base64": packed, "subType": "00"}}


@contextmanager
def _frames_file(path: Path) -> Iterator[TextIO]:
    with path.open("w", encoding="utf-8") as file:
        file.write('{"frames": {')
        yield file
        file.write("}}\n")


def _dump(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
