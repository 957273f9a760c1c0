"""RF-DETR resizes floats without antialiasing, unlike all others; against its own code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.analyzers.frames import FrameBatch
from pipeline.analyzers.preprocess import Preprocessing, to_rgb
from pipeline.analyzers.transformers_detector import TransformersDetector
from pipeline.config import TransformersDetectorConfig
from tests.analyzers import tiny

PROCESSOR = {
    "image_processor_type": "RfDetrImageProcessor",
    "size": {"height": 112, "width": 112},
    "resample": 2,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    pytest.importorskip("transformers.models.rf_detr", reason="this transformers has no RF-DETR")
    import torch
    from transformers import RfDetrConfig, RfDetrForObjectDetection
    from transformers.models.rf_detr.configuration_rf_detr import RfDetrDinov2Config

    path = tmp_path_factory.mktemp("rf_detr")
    torch.manual_seed(3)
    backbone = RfDetrDinov2Config(
        hidden_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=112,
        patch_size=14,
        num_windows=2,
        out_indices=[2, 4],
    )
    config = RfDetrConfig(
        backbone_config=backbone,
        d_model=32,
        num_queries=12,
        group_detr=1,
        decoder_layers=2,
        decoder_ffn_dim=32,
        decoder_self_attention_heads=2,
        decoder_cross_attention_heads=4,
        id2label=tiny.CLASSES,
        label2id={name: i for i, name in tiny.CLASSES.items()},
    )
    model = RfDetrForObjectDetection(config)
    with torch.no_grad():
        model.class_embed.weight.normal_()
        model.class_embed.bias.zero_()
    model.save_pretrained(path)
    tiny.save_processor(path, PROCESSOR)
    return path


def test_equals_transformers_from_the_pixels_on(folder: Path) -> None:
    pytest.importorskip("torchvision", reason="RF-DETR's own processor needs torchvision")
    import torch
    from transformers import AutoImageProcessor, RfDetrForObjectDetection

    frames = tiny.scene(3, 320, 180)
    processor = AutoImageProcessor.from_pretrained(folder)
    inputs = processor(list(frames), return_tensors="pt")
    ours = Preprocessing.from_folder(folder)
    pictures = ours.apply(to_rgb(tiny.rgb_pixels(frames), "cpu"), exact=True)
    np.testing.assert_allclose(pictures, inputs["pixel_values"], atol=2e-4)
    model = RfDetrForObjectDetection.from_pretrained(folder).eval()
    with torch.inference_mode():
        outputs = model(**inputs)
    theirs = processor.post_process_object_detection(
        outputs, threshold=0.5, target_sizes=[(180, 320)] * 3
    )
    config = TransformersDetectorConfig(
        backend="transformers", model=str(folder), threshold=0.5, batch=2
    )
    member = TransformersDetector(config)
    member.setup("cpu")
    rows = member.analyze(FrameBatch(tiny.rgb_pixels(frames))).to_pylist()
    assert len(rows) == sum(len(found["scores"]) for found in theirs) > 3
    for number, found in enumerate(theirs):
        mine = [row for row in rows if row["local"] == number]
        for box, score, label in zip(
            found["boxes"].numpy().clip(0, [320, 180, 320, 180]),
            found["scores"].numpy(),
            found["labels"].tolist(),
            strict=True,
        ):
            assert any(
                row["class_id"] == label
                and abs(row["score"] - score) < 1e-3
                and np.abs(np.array([row[k] for k in ("x1", "y1", "x2", "y2")]) - box).max() < 0.5
                for row in mine
            )


def test_it_is_told_apart_by_its_fingerprint(folder: Path) -> None:
    assert Preprocessing.from_folder(folder).antialias is False
