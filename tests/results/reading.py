"""Outputs that tests of reading and exporting share: made-up rows, and rows over real videos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.ledger.schema import DATA_COLUMNS
from pipeline.records import ShardTask, VideoOutcome
from pipeline.sources.discover import look
from pipeline.sources.index import index_video
from pipeline.sources.plan import plan_video
from tests.ledger.corpus import (
    ALL,
    DETECTOR,
    GRID,
    feed,
    make_index,
    make_results,
    make_tasks,
    open_writer,
    source_of,
    write_video,
)
from tests.sources.decoding import LIMITS
from tests.videos import make

KEYPOINTS = 2


def made_up(path: Path) -> str:
    """Three videos in many commits, one of them with a frame that could not be decoded."""
    with open_writer(path) as writer:
        write_video(writer, "a")
        write_video(writer, "c", frames=20, lost=frozenset({6}))
    with open_writer(path, "run-2") as writer:
        index = make_index("b", 133)
        writer.add_index(index)
        # Backwards, so that no order of files is that of frames.
        for task in reversed(make_tasks("b", 133)):
            feed(writer, task)
            writer.flush()
        writer.add_video(VideoOutcome(source_of("b"), index, "ok"))
    return str(path)


def over_videos(folder: Path) -> str:
    """Two small videos whose frames carry their index, with boxes, masks, keypoints, vectors."""
    make(folder / "videos" / "a.mp4", 90, gop=12, b_frames=2)
    make(folder / "videos" / "b.mp4", 40, gop=10, rotation=90)
    with open_writer(folder / "out") as writer:
        for name in ("a", "b"):
            source = look(str(folder / "videos" / f"{name}.mp4"))
            index = index_video(source, LIMITS)
            writer.add_index(index)
            for task in plan_video(source, index, GRID):
                due = replace(task, analyses=tuple(a.fingerprint for a in ALL))
                _feed(writer, due)
            writer.add_video(VideoOutcome(source, index, "ok"))
    return str(folder / "out")


def _feed(writer, task: ShardTask) -> None:  # type: ignore[no-untyped-def]
    writer.begin(task, 1)
    results, end = make_results(task)
    for result in results:
        rows = dict(result.rows)
        boxes = _boxes(task, result.positions)
        rows[DETECTOR.fingerprint] = boxes
        sizes = np.tile(
            np.array([[task.index.width, task.index.height]], np.int32), (len(result.positions), 1)
        )
        writer.add_result(replace(result, rows=rows, sizes=sizes))
    writer.add_end(end)


def _boxes(task: ShardTask, positions: np.ndarray) -> pa.Table:
    """Of frame i: i % 3 boxes, of two classes; those of class 2 with a mask and keypoints."""
    from pycocotools import mask as coco

    width, height = task.index.width, task.index.height
    rows = []
    for position in positions.tolist():
        frame = int(task.frames_of(position, position + 1)[0])
        for box in range((frame // 2) % 3):
            x, y = float(frame % 30) + 0.25, 4.0 + 20 * box
            row = {"position": position, "x1": x, "y1": y, "x2": x + 12, "y2": y + 10}
            row |= {
                "score": 0.9 - 0.3 * box,
                "class_id": 1 + box,
                "class_name": ("red circle", "blue square")[box],
            }
            if box:
                canvas = np.zeros((height, width), np.uint8, order="F")
                canvas[int(y) : int(y) + 10, int(x) : int(x) + 12] = 1
                rle = coco.encode(canvas)
                row["mask"] = {"size": [height, width], "counts": rle["counts"].decode()}
                row["keypoints"] = [x + 1, y + 1, 0.75, x + 2, y + 3, 0.0]
            rows.append(row)
    schema = DATA_COLUMNS["detections"].insert(0, pa.field("position", pa.int64()))
    return pa.Table.from_pylist(rows, schema=schema)
