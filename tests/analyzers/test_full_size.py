"""Architectures of the size that people use, with random weights, against their own code.

Frames are real ones and those of the demo world, and are resized as the models ask for.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.analyzers.frames import FrameBatch
from pipeline.config import ClipEmbedderConfig, Detectron2Config, TransformersDetectorConfig
from pipeline.demo.world import World
from tests.analyzers import tiny
from tests.analyzers.test_detectron2 import assert_like_predictor, by_frame, intersections
from tests.conftest import REAL_VIDEOS

DETR = {**tiny.DETR_PROCESSOR, "size": {"shortest_edge": 480, "longest_edge": 800}}
RT_DETR = {**tiny.RT_DETR_PROCESSOR, "size": {"height": 640, "width": 640}}
CLIP = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 224}}
SIGLIP = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 224, "width": 224}}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Takes the place of the folder's fixture of this name: these tensors are not tiny."""


@pytest.fixture(scope="module", params=["demo", "01_dog.mp4", "nasa_13013.mp4"])
def frames(request) -> np.ndarray:
    """uint8 (2, height, width, 3) RGB."""
    if request.param == "demo":
        world = World(3, 640, 360, 60)
        return np.stack([world.render(index) for index in (5, 50)])
    import av

    path = REAL_VIDEOS / request.param
    if not path.exists():
        pytest.skip(f"the real video {request.param} is not here (../shared/videos)")
    with av.open(str(path)) as container:
        pictures = [
            frame.to_ndarray(format="rgb24")
            for index, frame in zip(range(61), container.decode(video=0), strict=False)
            if index in (20, 60)
        ]
    return np.stack(pictures)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """The folder of an architecture's checkpoint, which takes seconds and is made once."""
    import torch

    made: dict[str, Path] = {}

    def of(architecture) -> Path:
        name = architecture.__name__
        if name not in made:
            torch.manual_seed(0)
            model, processor = architecture()
            made[name] = tmp_path_factory.mktemp(name)
            model.save_pretrained(made[name])
            tiny.save_processor(made[name], processor)
        return made[name]

    yield of
    for path in made.values():
        shutil.rmtree(path)


@pytest.fixture
def folder(request, checkpoints) -> Path:
    """The checkpoint of the architecture that the test names."""
    return checkpoints(request.param)


def detr():
    import torch
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

    backbone = ResNetConfig(out_features=["stage4"])
    config = DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=backbone,
        num_labels=91,
    )
    model = DetrForObjectDetection(config)
    with torch.no_grad():
        # Fresh queries are so small that all of them say the same.
        model.model.query_position_embeddings.weight.normal_()
        model.class_labels_classifier.weight.mul_(20)
        model.bbox_predictor.layers[-1].weight.mul_(20)
    return model, DETR


def rt_detr():
    from transformers import RTDetrV2Config, RTDetrV2ForObjectDetection

    return RTDetrV2ForObjectDetection(RTDetrV2Config(num_labels=80)), RT_DETR


def clip():
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection(CLIPVisionConfig(patch_size=32)), CLIP


def siglip():
    from transformers import SiglipVisionConfig, SiglipVisionModel

    return SiglipVisionModel(SiglipVisionConfig()), SIGLIP


@pytest.mark.parametrize("folder", [detr, rt_detr], indirect=True)
def test_detectors(folder: Path, frames: np.ndarray) -> None:
    import torch
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    from pipeline.analyzers.transformers_detector import TransformersDetector

    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = AutoModelForObjectDetection.from_pretrained(folder).eval()
    size = frames.shape[1:3]
    expected = []
    with torch.inference_mode():
        for frame in frames:
            outputs = model(**processor(frame, return_tensors="pt"))
            (found,) = processor.post_process_object_detection(
                outputs, threshold=0, target_sizes=[size]
            )
            expected.append({name: value.numpy() for name, value in found.items()})
    # Of a random model some queries have to be above the threshold and some below, and none so
    # near to it that rounding decides.
    every = np.sort(np.concatenate([found["scores"] for found in expected]))
    middle = every[len(every) // 4 : -len(every) // 4]
    gap = np.diff(middle).argmax()
    threshold = float(middle[gap : gap + 2].mean())
    config = TransformersDetectorConfig(
        backend="transformers", model=str(folder), threshold=threshold, batch=2
    )
    member = TransformersDetector(config)
    member.setup("cpu")
    rows = by_frame(member.analyze(FrameBatch(tiny.rgb_pixels(frames))), len(frames))
    assert sum(map(len, rows)) > 10
    for ours, theirs in zip(rows, expected, strict=True):
        above = theirs["scores"] > threshold
        assert len(ours) == above.sum()
        ours.sort(key=lambda row: -row["score"])
        boxes = np.array([[row[name] for name in ("x1", "y1", "x2", "y2")] for row in ours])
        limits = [size[1], size[0], size[1], size[0]]
        for box, score, label in zip(
            theirs["boxes"][above].clip(0, limits),
            theirs["scores"][above],
            theirs["labels"][above],
            strict=True,
        ):
            near = np.flatnonzero(np.abs(boxes - box).max(axis=1) < 0.5)
            assert any(
                ours[n]["class_id"] == label and abs(ours[n]["score"] - score) < 1e-3 for n in near
            )


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.9999), ("bf16", 0.999)])
@pytest.mark.parametrize("folder", [clip, siglip], indirect=True)
def test_embedders(folder: Path, frames: np.ndarray, precision, least: float) -> None:
    import torch
    from transformers import AutoImageProcessor, AutoModel, CLIPVisionModelWithProjection

    from pipeline.analyzers.clip import ClipEmbedder

    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    with torch.inference_mode():
        pictures = processor(list(frames), return_tensors="pt")["pixel_values"]
        if "clip" in folder.name and "siglip" not in folder.name:
            model = CLIPVisionModelWithProjection.from_pretrained(folder).eval()
            expected = model(pixel_values=pictures).image_embeds
        else:
            expected = AutoModel.from_pretrained(folder).eval()(pictures).pooler_output
        expected = torch.nn.functional.normalize(expected, dim=-1).numpy()
    member = ClipEmbedder(
        ClipEmbedderConfig(backend="clip", model=str(folder), precision=precision, batch=2)
    )
    member.setup("cpu")
    table = member.analyze(FrameBatch(tiny.rgb_pixels(frames)))
    found = np.array(table["embedding"].to_pylist(), dtype=np.float32)
    assert (found * expected).sum(axis=1).min() >= least


@pytest.fixture(scope="module", params=["masks", "keypoints"])
def rcnn(request, tmp_path_factory):
    """(member, predictor) of a Mask or Keypoint R-CNN R50-FPN at the default size."""
    import torch
    from detectron2.config import get_cfg
    from detectron2.engine import DefaultPredictor
    from detectron2.modeling import build_model

    from pipeline.analyzers.detectron2_detector import Detectron2Detector
    from pipeline.analyzers.detectron2_model import find_config

    name = {
        "masks": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml",
        "keypoints": "COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x.yaml",
    }[request.param]
    path = tmp_path_factory.mktemp(request.param)
    cfg = get_cfg()
    cfg.merge_from_file(str(find_config(name)), allow_unsafe=False)
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    # Random batch norms let signals grow until nothing is left to tell apart.
    cfg.MODEL.RESNETS.NORM = "BN"
    torch.manual_seed(0)
    model = build_model(cfg)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if "cls_score.weight" in key:
                # Of one class, it happens to be sure that nothing is there.
                weight.mul_(60 if request.param == "masks" else -60)
        model.train()
        for frame in tiny.scene(2, 640, 384, seed=5):
            image = torch.from_numpy(frame.transpose(2, 0, 1).copy())
            model.backbone(model.preprocess_image([{"image": image}]).tensor)
    torch.save({"model": model.state_dict()}, path / "model.pth")
    cfg.MODEL.WEIGHTS = str(path / "model.pth")
    (path / "model.yaml").write_text(cfg.dump())
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.3
    member = Detectron2Detector(
        Detectron2Config(
            backend="detectron2",
            config=str(path / "model.yaml"),
            weights=str(path / "model.pth"),
            threshold=0.3,
            batch=2,
        )
    )
    member.setup("cpu")
    yield member, DefaultPredictor(cfg)
    shutil.rmtree(path)


@pytest.mark.detectron2
def test_rcnns(rcnn, frames: np.ndarray) -> None:
    member, predictor = rcnn
    rows = by_frame(member.analyze(FrameBatch(tiny.rgb_pixels(frames))), len(frames))
    for frame, ours in zip(frames, rows, strict=True):
        instances = predictor(frame[:, :, ::-1])["instances"]
        ordered = assert_like_predictor(ours, instances)
        assert ordered
        if instances.has("pred_masks"):
            both, either = intersections(ordered, instances).T
            assert (both >= 0.99 * either).all()
        if instances.has("pred_keypoints"):
            found = np.array([row["keypoints"] for row in ordered])
            expected = instances.pred_keypoints.flatten(1).numpy()
            assert np.abs(found - expected).max() < 0.5
