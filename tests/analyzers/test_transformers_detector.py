from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.analyzers.frames import FrameBatch
from pipeline.analyzers.preprocess import Preprocessing, to_rgb
from pipeline.analyzers.transformers_detector import TransformersDetector
from pipeline.config import TransformersDetectorConfig
from pipeline.errors import ConfigError
from pipeline.ledger.schema import DATA_COLUMNS
from tests.analyzers import tiny
from tests.analyzers.yuv import as_rgb, random_yuv

WIDTH, HEIGHT = 160, 90


def detector(folder: Path | str, **settings: Any) -> TransformersDetector:
    settings = {"threshold": 0.3, **settings}
    config = TransformersDetectorConfig(backend="transformers", model=str(folder), **settings)
    member = TransformersDetector(config)
    member.setup("cpu")
    return member


def rows(table: pa.Table) -> np.ndarray:
    """local, class, score and corners, float64 (n, 7)."""
    names = ("local", "class_id", "score", "x1", "y1", "x2", "y2")
    return np.stack([table.column(name).to_numpy() for name in names], axis=1)


def raw_outputs(folder: Path, frames: np.ndarray) -> Any:
    import torch
    from transformers import AutoModelForObjectDetection

    model = AutoModelForObjectDetection.from_pretrained(folder).eval()
    pictures = Preprocessing.from_folder(folder).apply(
        to_rgb(tiny.rgb_pixels(frames), "cpu"), exact=True
    )
    with torch.inference_mode():
        return model(pixel_values=pictures)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return tiny.scene(8, WIDTH, HEIGHT, seed=1)


def test_boxes_in_displayed_pixels(detector_folder: Path, frames: np.ndarray) -> None:
    table = detector(detector_folder).analyze(FrameBatch(tiny.rgb_pixels(frames)))
    assert table.schema.remove(0) == DATA_COLUMNS["detections"]
    assert table.schema.field("local").type == pa.int64()
    found = rows(table)
    assert len(found) > 8
    local, score, corners = found[:, 0], found[:, 2], found[:, 3:]
    assert (np.diff(local) >= 0).all()
    assert all((np.diff(score[local == i]) <= 0).all() for i in range(8))
    assert score.min() > 0.3
    assert (corners >= 0).all()
    assert (corners <= [WIDTH, HEIGHT, WIDTH, HEIGHT]).all()
    assert corners[:, 2].max() > 96  # Wider than any picture that the models were shown.
    names = table.column("class_name").to_pylist()
    assert names == [tiny.CLASSES[i] for i in found[:, 1]]
    assert table.column("mask").null_count == table.column("keypoints").null_count == len(found)


def test_equals_transformers(detector_folder: Path, frames: np.ndarray) -> None:
    """transformers' own post-processing of the same model's raw output."""
    pytest.importorskip("PIL", reason="transformers' reference processors need Pillow")
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(detector_folder, backend="pil")
    expected = processor.post_process_object_detection(
        raw_outputs(detector_folder, frames),
        threshold=0.3,
        target_sizes=[(HEIGHT, WIDTH)] * len(frames),
    )
    found = rows(detector(detector_folder).analyze(FrameBatch(tiny.rgb_pixels(frames))))
    assert len(found) == sum(len(frame["scores"]) for frame in expected)
    for number, frame in enumerate(expected):
        mine = found[found[:, 0] == number]
        order = np.argsort(-frame["scores"].numpy(), kind="stable")
        bounds = [WIDTH, HEIGHT, WIDTH, HEIGHT]
        np.testing.assert_allclose(mine[:, 2], frame["scores"].numpy()[order], atol=1e-5)
        np.testing.assert_array_equal(mine[:, 1], frame["labels"].numpy()[order])
        boxes = frame["boxes"].numpy()[order].clip(0, bounds)
        np.testing.assert_allclose(mine[:, 3:], boxes, atol=0.02)


@pytest.mark.parametrize("size", [1, 3])
def test_batches_make_no_difference(detector_folder: Path, frames: np.ndarray, size: int) -> None:
    batch = FrameBatch(tiny.rgb_pixels(frames))
    whole = rows(detector(detector_folder, batch=8).analyze(batch))
    split = rows(detector(detector_folder, batch=size).analyze(batch))
    np.testing.assert_array_equal(split[:, :2], whole[:, :2])
    np.testing.assert_allclose(split[:, 2:], whole[:, 2:], atol=0.02)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_is_near(detector_folder: Path, frames: np.ndarray, precision: str) -> None:
    batch = FrameBatch(tiny.rgb_pixels(frames[:2]))
    full = rows(detector(detector_folder, threshold=0).analyze(batch))
    lower = rows(detector(detector_folder, threshold=0, precision=precision).analyze(batch))
    assert lower.shape == full.shape
    # Neighbours may swap, the scores as a whole may not move far.
    assert np.abs(lower[:, 2] - full[:, 2]).max() < 0.15


def test_yuv_frames_give_what_their_rgb_gives(detector_folder: Path) -> None:
    yuv = random_yuv(2, WIDTH, HEIGHT)
    member = detector(detector_folder, threshold=0.1)
    from_yuv = rows(member.analyze(FrameBatch(yuv)))
    from_rgb = rows(member.analyze(FrameBatch(tiny.rgb_pixels(as_rgb(yuv)))))
    assert len(from_yuv) == len(from_rgb)
    np.testing.assert_allclose(from_yuv[:, 2], from_rgb[:, 2], atol=0.02)


def test_nothing_found(detector_folder: Path, frames: np.ndarray) -> None:
    member = detector(detector_folder, threshold=0.999999)
    table = member.analyze(FrameBatch(tiny.rgb_pixels(frames[:1])))
    assert table.num_rows == 0
    assert table.schema.remove(0) == DATA_COLUMNS["detections"]


def test_identity(detector_folder: Path, tmp_path: Path) -> None:
    def identity(folder: Path, **settings: Any) -> dict[str, object]:
        settings = {"backend": "transformers", "model": str(folder), **settings}
        return TransformersDetector(TransformersDetectorConfig(**settings)).identity()

    original = identity(detector_folder)
    json.dumps(original)
    copy = tmp_path / "elsewhere"
    shutil.copytree(detector_folder, copy)
    assert identity(copy) == original
    assert identity(copy, batch=3) == original
    assert identity(copy, threshold=0.25) != original
    assert identity(copy, precision="bf16") != original
    assert str(tmp_path) not in json.dumps(identity(copy))
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert identity(copy)["model"] != original["model"]


def test_other_architectures_are_refused(clip_folder: Path) -> None:
    with pytest.raises(ConfigError, match="model_type = 'clip' is no detector"):
        detector(clip_folder)
