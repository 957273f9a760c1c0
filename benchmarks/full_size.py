"""Models of the size that people use, with random weights: speed does not depend on those.

Only how much a detector finds does. Its weights are spread until it finds enough, and it keeps as
many detections a frame as COCO's pictures have objects.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

OBJECTS = 8
"""COCO has 7.7 instances a picture (Lin et al. 2014, Microsoft COCO, section 5)."""


@dataclass(frozen=True)
class FullSize:
    """A model on disk."""

    section: dict[str, dict[str, Any]]
    """What a run's configuration has to say to use it."""
    ready: Callable[[int, int, int, str], Callable[[], Any]]
    """(batch, height, width, device) to a function that runs the model alone, loaded onto the
    device, on a batch that lies there as the model takes it; height and width of the video."""


def clip_b32(work: Path) -> FullSize:
    return _clip(work / "clip-b32")


def clip_l14(work: Path) -> FullSize:
    # Source: config.json of openai/clip-vit-large-patch14.
    large = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
        "projection_dim": 768,
    }
    return _clip(work / "clip-l14", **large)


def _clip(folder: Path, **sizes: int) -> FullSize:
    """The vision tower, of ViT-B/32 where no sizes are given."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from pipeline.analyzers.models import quiet_transformers

    last = folder / "preprocessor_config.json"
    if not last.exists():
        with quiet_transformers():
            CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes)).save_pretrained(folder)
        processor = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 224}}
        last.write_text(json.dumps(processor))
    section = {"embedder": {"backend": "clip", "model": str(folder)}}
    return FullSize(section, partial(_ready_clip, folder))


def _ready_clip(
    folder: Path, batch: int, _height: int, _width: int, device: str
) -> Callable[[], Any]:
    import torch

    from pipeline.analyzers.towers import load_tower

    model, features = load_tower(folder, "image")
    model.to(device)
    pixels = torch.rand(batch, 3, 224, 224, device=device)
    return lambda: features(pixel_values=pixels)


def faster_rcnn(work: Path) -> FullSize:
    return _rcnn(work / "faster-r50", "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml")


def mask_rcnn(work: Path) -> FullSize:
    return _rcnn(work / "mask-r50", "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml")


def _rcnn(folder: Path, zoo_name: str) -> FullSize:
    """Raises ConfigError where Detectron2 cannot be imported."""
    from pipeline.analyzers.detectron2_model import find_config, require_detectron2

    require_detectron2()
    from detectron2.config import get_cfg

    cfg = get_cfg()
    cfg.merge_from_file(str(find_config(zoo_name)), allow_unsafe=False)
    cfg.TEST.DETECTIONS_PER_IMAGE = OBJECTS
    config, weights = folder / "config.yaml", folder / "model.pth"
    folder.mkdir(parents=True, exist_ok=True)
    config.write_text(cfg.dump())
    if not weights.exists():
        _save_random(cfg, weights)
    section = {"backend": "detectron2", "config": str(config), "weights": str(weights)}
    return FullSize({"detector": section}, partial(_ready_rcnn, section))


def _save_random(cfg: Any, weights: Path) -> None:
    import torch
    from detectron2.modeling import build_model

    from pipeline.demo.world import World

    # Frozen batch norms of random networks let signals grow until nothing is left to tell apart:
    # these are measured on two frames, and are frozen when the file is loaded.
    cfg = cfg.clone()
    cfg.MODEL.RESNETS.NORM, cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE = "BN", "", "cpu"
    torch.manual_seed(0)
    model = build_model(cfg)
    world = World(seed=5, width=640, height=384, frame_count=2)
    images = [torch.from_numpy(world.render(n).transpose(2, 0, 1).copy()) for n in range(2)]
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.weight.mul_(60)
        model.train()
        model.backbone(model.preprocess_image([{"image": one} for one in images]).tensor)
    part = weights.with_suffix(".part")
    torch.save(model.state_dict(), part)
    part.rename(weights)


def _ready_rcnn(
    section: dict[str, Any], batch: int, height: int, width: int, device: str
) -> Callable[[], Any]:
    import torch

    from pipeline.analyzers.detectron2_detector import shortest_edge_size
    from pipeline.analyzers.detectron2_model import build, model_config
    from pipeline.config import Detectron2Config
    from pipeline.demo.world import World

    node = model_config(Detectron2Config(**section), Path(section["config"]))
    model = build(node, Path(section["weights"])).to(device)
    edges = (int(node.INPUT.MIN_SIZE_TEST), int(node.INPUT.MAX_SIZE_TEST))
    resized = shortest_edge_size(height, width, *edges)
    # Of the world that the video shows, so that as much is found as there.
    world = World(seed=7, width=resized[1], height=resized[0], frame_count=batch)
    frames = [world.render(n)[..., ::-1].transpose(2, 0, 1).copy() for n in range(batch)]
    inputs = [{"image": torch.from_numpy(frame).to(device)} for frame in frames]
    return lambda: model.inference(inputs, do_postprocess=False)


MODELS: dict[str, Callable[[Path], FullSize]] = {
    "CLIP ViT-B/32": clip_b32,
    "CLIP ViT-L/14": clip_l14,
    "Faster R-CNN R50-FPN (Detectron2)": faster_rcnn,
    "Mask R-CNN R50-FPN (Detectron2)": mask_rcnn,
}
"""By the name in the table. Making one raises ConfigError where its library is missing."""
