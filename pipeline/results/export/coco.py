"""COCO: images, annotations and categories as pycocotools loads them.

A folder of `annotations.json` and, where pictures are asked for, `images/`. Ids of images and
annotations count from 1 (pycocotools takes an annotation 0 for none); categories have the
model's numbers. Boxes are absolute xywh. Masks stay the RLE that they are. A keypoint is visible
(2) where its score is above 0; the scores themselves are in `keypoint_scores`. A box that belongs
to a track has its `track_id`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UsageError
from pipeline.results.export.job import Counts, Job, boxes_of, folder_name
from pipeline.results.export.target import new_folder
from pipeline.results.export.track_ids import TrackIds
from pipeline.results.optional import load

if TYPE_CHECKING:
    from io import TextIOWrapper

    from pipeline.ledger.frame import Frame


def export(job: Job) -> Counts:
    """Write the folder. Frames that could not be decoded are not in it."""
    counts = Counts()
    videos = job.videos()
    categories: dict[int, dict[str, Any]] = {}
    with new_folder(job.path, job.overwrite) as folder:
        boxes_file = folder / "annotations.part"
        with (
            (folder / "annotations.json").open("w", encoding="utf-8") as file,
            boxes_file.open("w+", encoding="utf-8") as boxes,
        ):
            file.write('{"info": ' + json.dumps({"description": "frameledger", **job.about()}))
            file.write(',\n"licenses": [],\n"images": [')
            tracks = TrackIds(job.ledger)
            for frame, picture in job.frames(counts):
                uri = videos.uri(frame.video_id)
                image = _image(frame, counts.frames, uri, job.pictures or "jpg")
                _item(file, image, first=counts.frames == 1)
                if picture is not None:
                    _write(folder / "images" / image["file_name"], picture)
                first_id = counts.boxes - frame.detections.num_rows + 1
                track_ids = tracks.of(frame)
                for number, (box, track_id) in enumerate(
                    zip(boxes_of(frame), track_ids, strict=True), first_id
                ):
                    found = _annotation(box, number, image["id"])
                    if track_id is not None:
                        found["track_id"] = track_id
                    _item(boxes, found, first=number == 1)
                    _note(categories, box)
            file.write('\n],\n"annotations": [')
            boxes.seek(0)
            while part := boxes.read(1 << 20):
                file.write(part)
            listed = [categories[number] for number in sorted(categories)]
            file.write('\n],\n"categories": ' + json.dumps(listed) + "}\n")
        boxes_file.unlink()
    return counts


def _image(frame: Frame, number: int, uri: str | None, ending: str) -> dict[str, Any]:
    return {
        "id": number,
        "width": frame.row["width"],
        "height": frame.row["height"],
        "file_name": f"{folder_name(frame.video_id, uri)}/{frame.frame_index:06d}.{ending}",
        "video_id": frame.video_id,
        "uri": uri,
        "frame_index": frame.frame_index,
        "pts_s": frame.row["pts_s"],
    }


def _annotation(box: dict[str, Any], number: int, image: int) -> dict[str, Any]:
    width, height = box["x2"] - box["x1"], box["y2"] - box["y1"]
    found = {
        "id": number,
        "image_id": image,
        "category_id": box["class_id"],
        "bbox": [box["x1"], box["y1"], width, height],
        "area": width * height,
        "iscrowd": 0,
        "score": box["score"],
    }
    if box["mask"] is not None:
        coco = load("pycocotools.mask", "pycocotools", "an export of masks to COCO")
        found["segmentation"] = box["mask"]
        found["area"] = float(coco.area(box["mask"]))
    if box["keypoints"] is not None:
        scores = box["keypoints"][2::3]
        seen = [2 if score > 0 else 0 for score in scores]
        points = zip(box["keypoints"][::3], box["keypoints"][1::3], seen, strict=True)
        found["keypoints"] = [value for point in points for value in point]
        found["num_keypoints"] = sum(score > 0 for score in scores)
        found["keypoint_scores"] = scores
    return found


def _note(categories: dict[int, dict[str, Any]], box: dict[str, Any]) -> None:
    name = box["class_name"]
    known = categories.setdefault(
        box["class_id"], {"id": box["class_id"], "name": name, "supercategory": ""}
    )
    if known["name"] != name:
        raise UsageError(
            f"class {box['class_id']} is {known['name']} and {name}: COCO wants one name; export "
            "them apart with --class"
        )
    if box["keypoints"] is not None and "keypoints" not in known:
        known["keypoints"] = [str(number) for number in range(len(box["keypoints"]) // 3)]
        known["skeleton"] = []


def _item(file: TextIOWrapper[Any], item: dict[str, Any], *, first: bool) -> None:
    file.write("\n" if first else ",\n")
    json.dump(item, file)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
