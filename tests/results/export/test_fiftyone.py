"""FiftyOne's folder: by its documented layout, and by FiftyOne's own importer where it is there."""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.results.export.made import boxes_of, counted, frames_of, made, of


def test_what_is_written_is_the_documented_layout(videos: str, target: Path) -> None:
    def array(value: dict[str, dict[str, str]]) -> np.ndarray:
        packed = base64.b64decode(value["$binary"]["base64"])
        return np.load(io.BytesIO(zlib.decompress(packed)))

    frames = frames_of(videos)
    assert of(made(videos, target, "fiftyone")) == counted(frames)
    samples = json.loads((target / "samples.json").read_text())["samples"]
    assert [Path(sample["filepath"]).exists() for sample in samples] == [True, True]
    by_video = {s["video_id"]: json.loads((target / s["frames"]).read_text()) for s in samples}
    assert sum(len(labels["frames"]) for labels in by_video.values()) == len(frames)
    for frame in frames:
        found = by_video[frame.video_id]["frames"][str(frame.frame_index + 1)]
        assert (found["frame_number"], found["frame_index"]) == (
            frame.frame_index + 1,
            frame.frame_index,
        )
        assert array(found["embedding"]).tolist() == frame.embedding.tolist()  # type: ignore[union-attr]
        size = np.array([frame.row["width"], frame.row["height"]])
        for one, box in zip(found["detections"]["detections"], boxes_of(frame), strict=True):
            x, y, width, height = one["bounding_box"]
            corners = [*(np.array([x, y]) * size), *(np.array([x + width, y + height]) * size)]
            assert corners == pytest.approx([box[s] for s in ("x1", "y1", "x2", "y2")], abs=1e-4)
            assert (one["label"], one["confidence"]) == (box["class_name"], box["score"])
            if box["mask"] is not None:
                mask = array(one["mask"])
                assert (mask.dtype, mask.sum()) == (bool, 12 * 10)


def test_its_own_importer_reads_the_same(videos: str, target: Path) -> None:
    data = pytest.importorskip(
        "fiftyone.utils.data",
        reason="FiftyOne is not installed (it brings opencv-python-headless and MongoDB)",
    )
    made(videos, target, "fiftyone")
    frames = {(frame.video_id, frame.frame_index): frame for frame in frames_of(videos)}
    with data.LegacyFiftyOneDatasetImporter(dataset_dir=str(target)) as importer:
        samples = list(importer)
    assert [Path(sample.filepath).exists() for sample in samples] == [True, True]
    masks = 0
    for sample in samples:
        for number, labels in sample.frames.items():
            frame = frames.pop((sample.video_id, number - 1))
            assert labels.embedding.tolist() == frame.embedding.tolist()  # type: ignore[union-attr]
            size = np.array([frame.row["width"], frame.row["height"]] * 2)
            for one, box in zip(labels.detections.detections, boxes_of(frame), strict=True):
                x, y, width, height = one.bounding_box
                corners = np.array([x, y, x + width, y + height]) * size
                sides = [box[side] for side in ("x1", "y1", "x2", "y2")]
                assert corners.tolist() == pytest.approx(sides, abs=1e-4)
                assert (one.label, one.confidence) == (box["class_name"], box["score"])
                if box["mask"] is not None:
                    masks += 1
                    assert (one.mask.dtype, one.mask.sum()) == (bool, 12 * 10)
    assert not frames
    assert masks
