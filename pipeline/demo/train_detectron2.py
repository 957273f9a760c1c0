"""Train the demo's Detectron2 detector from nothing: `python -m pipeline.demo.train_detectron2`.

A Faster R-CNN with a narrow ResNet-50 and feature pyramid on frames of the demo world, about a
quarter of an hour on two cores of a CPU with nothing else to do. Needs Detectron2, which the
package does not install.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.demo.evaluate import MODELS
from pipeline.demo.samples import HEIGHT, WIDTH, Batch, training_batches
from pipeline.demo.schedule import averaged, rate_schedule
from pipeline.demo.world import CLASSES

if TYPE_CHECKING:
    import torch

STEPS = 1300
BATCH_SIZE = 16
PEAK_RATE = 2e-3
WARM_UP_STEPS = 50
EMA_DECAY = 0.99
MIN_VISIBILITY = 0.3
"""Objects of which less can be seen are no targets."""


def model_config() -> Any:
    """Detectron2's CfgNode of the model: about a million parameters."""
    from detectron2.config import get_cfg

    cfg = get_cfg()
    settings = {
        "MODEL.DEVICE": "cpu",
        "MODEL.WEIGHTS": "",
        "MODEL.META_ARCHITECTURE": "GeneralizedRCNN",
        "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
        "MODEL.BACKBONE.FREEZE_AT": 0,
        "MODEL.RESNETS.DEPTH": 50,
        "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
        "MODEL.RESNETS.NORM": "BN",
        "MODEL.RESNETS.STEM_OUT_CHANNELS": 16,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 32,
        "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
        "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
        "MODEL.FPN.OUT_CHANNELS": 64,
        "MODEL.ANCHOR_GENERATOR.SIZES": [[8], [16], [32], [64], [128]],
        "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[1.0]],
        "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
        "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 64,
        "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 200,
        "MODEL.RPN.PRE_NMS_TOPK_TEST": 100,
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": 100,
        "MODEL.RPN.POST_NMS_TOPK_TEST": 60,
        "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
        "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 64,
        "MODEL.ROI_HEADS.NUM_CLASSES": len(CLASSES),
        "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.5,
        "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
        "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
        "MODEL.ROI_BOX_HEAD.FC_DIM": 128,
        "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
        "MODEL.PIXEL_MEAN": [128.0, 128.0, 128.0],
        "MODEL.PIXEL_STD": [64.0, 64.0, 64.0],
        "INPUT.FORMAT": "RGB",
        "INPUT.MIN_SIZE_TEST": HEIGHT,
        "INPUT.MAX_SIZE_TEST": WIDTH,
        "TEST.DETECTIONS_PER_IMAGE": 30,
        "DATASETS.TEST": [],
    }
    cfg.merge_from_list([part for pair in settings.items() for part in pair])
    return cfg


def inputs_of(batch: Batch) -> list[dict[str, Any]]:
    """What Detectron2 trains on: uint8 images (3, height, width) and their instances."""
    import torch
    from detectron2.structures import Boxes, Instances

    inputs = []
    for image, objects in zip(batch.images, batch.objects, strict=True):
        seen = [o for o in objects if o.visibility >= MIN_VISIBILITY]
        instances = Instances((HEIGHT, WIDTH))
        corners = torch.tensor([o.box for o in seen], dtype=torch.float32).reshape(-1, 4)
        instances.gt_boxes = Boxes(corners)
        instances.gt_classes = torch.tensor([o.class_id for o in seen], dtype=torch.long)
        inputs.append({"image": _tensor(image), "instances": instances})
    return inputs


def train_detectron2(folder: Path, log: Callable[[str], None], *, steps: int = STEPS) -> Any:
    """Train, save to `folder`, return the averaged model."""
    import torch
    from detectron2.modeling import build_model
    from detectron2.utils.events import EventStorage

    torch.manual_seed(0)
    cfg = model_config()
    model = build_model(cfg)
    log(f"detectron2: {sum(p.numel() for p in model.parameters()):,} parameters, {steps} steps")
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate_schedule(steps, WARM_UP_STEPS))
    average = averaged(model, EMA_DECAY)
    model.train()
    started = time.monotonic()
    shown = 0.0
    # Detectron2's heads write their own figures to a storage, which has to be there.
    with EventStorage():
        for step, batch in enumerate(training_batches(steps, BATCH_SIZE), start=1):
            loss = sum(model(inputs_of(batch)).values())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(model)
            shown += loss.item()
            if step % 50 == 0 or step == steps:
                spent = time.monotonic() - started
                mean = shown / (step % 50 or 50)
                log(f"detectron2 step {step}/{steps} loss {mean:.3f} ({spent:.0f} s)")
                shown = 0.0
    trained = average.module.eval()
    save(trained, cfg, folder)
    return trained


def save(model: Any, cfg: Any, folder: Path) -> None:
    """Write config.yaml, model.safetensors and classes.txt."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(cfg.dump(), encoding="utf-8")
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "model.safetensors").chmod(0o644)


def _tensor(image: Any) -> torch.Tensor:
    import torch

    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


def _log(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, flush=True)


def main() -> None:
    """Train and save among the shipped models."""
    import sys

    from pipeline.analyzers.detectron2_model import require_detectron2
    from pipeline.errors import ConfigError

    try:
        require_detectron2()
    except ConfigError as error:
        sys.exit(f"nothing was trained: {error}")
    import torch

    torch.set_num_threads(2)
    train_detectron2(MODELS / "detectron2", _log)


if __name__ == "__main__":
    main()
