"""The Detectron2 detector against Detectron2's own predictor, frame by frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.analyzers.frames import FrameBatch
from pipeline.clip_pixels import Pixels
from pipeline.config import Detectron2Config
from pipeline.errors import VideoError
from tests.analyzers.tiny import scene

pytestmark = pytest.mark.detectron2
CLASSES = ("cat", "dog", "fish", "bird", "tree")
ZOO = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A narrow Mask R-CNN with keypoints left out; random, its batch norms calibrated."""
    return make_model(tmp_path_factory.mktemp("d2"))


def make_model(folder: Path, **settings: object) -> Path:
    import torch
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model
    from safetensors.torch import save_file

    from pipeline.analyzers.detectron2_model import find_config

    cfg = get_cfg()
    cfg.merge_from_file(str(find_config(ZOO)), allow_unsafe=False)
    narrow = {
        "MODEL.DEVICE": "cpu",
        "MODEL.WEIGHTS": "",
        "MODEL.RESNETS.DEPTH": 18,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
        "MODEL.RESNETS.NORM": "BN",
        "MODEL.FPN.OUT_CHANNELS": 32,
        "MODEL.ROI_BOX_HEAD.FC_DIM": 64,
        "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
        "MODEL.ROI_HEADS.NUM_CLASSES": len(CLASSES),
        "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
        "INPUT.MIN_SIZE_TEST": 160,
        "INPUT.MAX_SIZE_TEST": 300,
        "TEST.DETECTIONS_PER_IMAGE": 100,
        **settings,
    }
    cfg.merge_from_list([part for pair in narrow.items() for part in pair])
    torch.manual_seed(0)
    model = build_model(cfg)
    with torch.no_grad():
        # Random heads are unsure of everything: larger weights make them say something.
        for name, weight in model.named_parameters():
            if "cls_score.weight" in name or "predictor.weight" in name:
                weight.mul_(60)
        model.train()
        for frame in scene(3, 256, 160, seed=5):
            image = torch.from_numpy(frame.transpose(2, 0, 1).copy())
            model.backbone(model.preprocess_image([{"image": image}]).tensor)
    (folder / "model.yaml").write_text(cfg.dump())
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors"
    )
    torch.save({"model": model.state_dict()}, folder / "model.pth")
    return folder


def detector(folder: Path, **settings: object):
    from pipeline.analyzers.detectron2_detector import Detectron2Detector

    config = {"config": str(folder / "model.yaml"), "weights": str(folder / "model.safetensors")}
    member = Detectron2Detector(Detectron2Config(backend="detectron2", **(config | settings)))
    member.setup("cpu")
    return member


def predictor(folder: Path, threshold: float):
    from detectron2.config import get_cfg
    from detectron2.engine import DefaultPredictor

    cfg = get_cfg()
    cfg.merge_from_file(str(folder / "model.yaml"), allow_unsafe=False)
    cfg.MODEL.WEIGHTS = str(folder / "model.pth")
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = threshold
    cfg.MODEL.RETINANET.SCORE_THRESH_TEST = threshold
    return DefaultPredictor(cfg)


def batch_of(frames: np.ndarray) -> FrameBatch:
    return FrameBatch(Pixels(frames, "rgb24", frames.shape[2], frames.shape[1]))


def by_frame(table, count: int) -> list[list[dict]]:
    rows = table.to_pylist()
    return [[row for row in rows if row["local"] == frame] for frame in range(count)]


def assert_like_predictor(found: list[dict], instances) -> list[dict]:
    """As many boxes, each near one of the same class. Returns `found` in the predictor's order,
    which differs where two scores are equal to rounding."""
    instances = instances.to("cpu")
    assert len(found) == len(instances)
    left = [*found]
    ordered = []
    for box, score, class_id in zip(
        instances.pred_boxes.tensor.numpy(),
        instances.scores.numpy(),
        instances.pred_classes.tolist(),
        strict=True,
    ):
        near = [
            row
            for row in left
            if row["class_id"] == class_id
            and abs(row["score"] - score) < 1e-3
            and np.abs(np.array([row[key] for key in ("x1", "y1", "x2", "y2")]) - box).max() < 0.5
        ]
        assert near, f"no box like {box} of class {class_id} with score {score}"
        left.remove(near[0])
        ordered.append(near[0])
    return ordered


def intersections(found: list[dict], instances) -> np.ndarray:
    """int (n, 2): pixels in both masks and in either, per box."""
    from pycocotools import mask as coco

    counts = np.empty((len(found), 2), np.int64)
    for count, row, theirs in zip(counts, found, instances.pred_masks.cpu().numpy(), strict=True):
        ours = coco.decode(row["mask"]).astype(bool)
        assert ours.shape == theirs.shape
        count[:] = (ours & theirs).sum(), (ours | theirs).sum()
    return counts


@pytest.mark.parametrize("size", [(256, 160), (160, 256), (203, 160)])
def test_a_random_model_equals_the_predictor(tiny, size):
    """Nothing is resized here: a random model cannot tell its boxes apart, so that one level of
    one pixel changes which of two survives. See below for the trained one."""
    frames = scene(5, *size)
    reference = predictor(tiny, 0.3)
    found = by_frame(detector(tiny, threshold=0.3, batch=3).analyze(batch_of(frames)), 5)
    assert sum(map(len, found)) > 10
    for frame, rows in zip(frames, found, strict=True):
        instances = reference(frame[:, :, ::-1])["instances"]
        both, either = intersections(assert_like_predictor(rows, instances), instances).T
        assert (both >= 0.99 * either).all()


def test_pasting_equals_detectron2_pixel_by_pixel():
    import torch
    from detectron2.layers.mask_ops import paste_masks_in_image
    from pycocotools import mask as coco

    from pipeline.analyzers.masks import encode_masks

    rng = np.random.default_rng(3)
    squares = torch.from_numpy(rng.random((40, 28, 28), dtype=np.float32))
    corners = np.sort(rng.uniform(-5, 110, (40, 2, 2)), axis=1).astype(np.float32)
    boxes = np.clip(corners.reshape(40, 4), 0, [130, 100, 130, 100]).astype(np.float32)
    expected = paste_masks_in_image(squares, torch.from_numpy(boxes), (100, 130)).numpy()
    found = [coco.decode(rle) for rle in encode_masks(squares, boxes, 100, 130)]
    # Rounding may differ where a value is the threshold to the last bit.
    assert (np.array(found) != expected).sum() <= 2


@pytest.mark.parametrize("batch", [1, 3, 8, "auto"])
def test_the_batch_changes_nothing(tiny, batch):
    frames = scene(9, 256, 160)
    one = by_frame(detector(tiny, threshold=0.3, batch=1).analyze(batch_of(frames)), 9)
    many = by_frame(detector(tiny, threshold=0.3, batch=batch).analyze(batch_of(frames)), 9)
    for ours, theirs in zip(one, many, strict=True):
        assert [r["class_id"] for r in ours] == [r["class_id"] for r in theirs]
        for a, b in zip(ours, theirs, strict=True):
            assert abs(a["x1"] - b["x1"]) < 0.5
            assert abs(a["score"] - b["score"]) < 1e-3
            assert a["mask"]["size"] == b["mask"]["size"] == [160, 256]


def test_retinanet_and_names(tmp_path):
    folder = make_model(
        tmp_path,
        **{
            "MODEL.META_ARCHITECTURE": "RetinaNet",
            "MODEL.BACKBONE.NAME": "build_retinanet_resnet_fpn_backbone",
            "MODEL.RESNETS.OUT_FEATURES": ["res3", "res4", "res5"],
            "MODEL.FPN.IN_FEATURES": ["res3", "res4", "res5"],
            "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
            "MODEL.RETINANET.NUM_CLASSES": len(CLASSES),
            "MODEL.RETINANET.NUM_CONVS": 1,
        },
    )
    frames = scene(3, 256, 160)
    threshold = 0.012
    reference = predictor(folder, threshold)
    found = by_frame(detector(folder, threshold=threshold).analyze(batch_of(frames)), 3)
    assert sum(map(len, found)) > 3
    for frame, rows in zip(frames, found, strict=True):
        assert_like_predictor(rows, reference(frame[:, :, ::-1])["instances"])
        assert {row["class_name"] for row in rows} <= set(CLASSES)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_writes_float32(tiny, precision):
    frames = scene(3, 256, 160)
    table = detector(tiny, threshold=0.3, precision=precision).analyze(batch_of(frames))
    assert str(table.schema.field("score").type) == "float"
    assert table.num_rows > 3


def test_masks_can_be_left_away(tiny):
    table = detector(tiny, threshold=0.3, masks=False).analyze(batch_of(scene(2, 256, 160)))
    assert table.num_rows
    assert table["mask"].null_count == table.num_rows


def test_out_of_memory_halves_the_batch(tiny):
    import torch

    member = detector(tiny, threshold=0.3, batch=8)
    frames = batch_of(scene(8, 256, 160))
    expected = member.analyze(frames).column("class_id").to_pylist()

    def too_much(module, arguments):
        if len(arguments[0]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    handle = member._model.backbone.register_forward_pre_hook(too_much)
    assert member.analyze(frames).column("class_id").to_pylist() == expected
    assert member.notes == [
        "detector: out of memory with 8 frames of 256x160 at once, went on with 4",
        "detector: out of memory with 4 frames of 256x160 at once, went on with 2",
    ]
    handle.remove()
    member._model.backbone.register_forward_pre_hook(
        lambda module, arguments: (_ for _ in ()).throw(torch.OutOfMemoryError("no"))
    )
    with pytest.raises(VideoError, match="out of memory with 1 frames"):
        member.analyze(frames)


def test_identity_names_what_changes_the_output(tiny, tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    from pipeline.analyzers.detectron2_detector import Detectron2Detector

    def identity(**settings: object) -> dict[str, object]:
        given = {"config": str(tiny / "model.yaml"), "weights": str(tiny / "model.safetensors")}
        return Detectron2Detector(
            Detectron2Config(backend="detectron2", **(given | settings))
        ).identity()

    same = identity()
    assert identity(batch=5) == same
    tensors = load_file(tiny / "model.safetensors")
    name = next(key for key in tensors if tensors[key].dtype == torch.float32)
    save_file(tensors | {name: tensors[name] + 1}, tmp_path / "other.safetensors")
    for change in (
        {"threshold": 0.7},
        {"precision": "bf16"},
        {"masks": False},
        {"class_names": ("a", "b", "c", "d", "e")},
        {"weights": str(tmp_path / "other.safetensors")},
    ):
        assert identity(**change) != same, change
