"""Train the demo detector: a small RT-DETR v2 on frames of the demo world.

RT-DETR v2: Lv et al. 2024, arXiv 2407.17140. Its one-to-one matching gives each object a single
positive query, which is slow to learn from when nothing is known yet. So the first steps train
the encoder's proposals alone, and every token near the middle of an object is a positive (as in
FCOS, Tian et al. 2019, arXiv 1904.01355). The whole model then starts from proposals that are
mostly right; the dense loss fades out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.demo.samples import HEIGHT, WIDTH, Batch, training_batches
from pipeline.demo.schedule import averaged, rate_schedule
from pipeline.demo.world import CLASSES

if TYPE_CHECKING:
    import torch

PROPOSAL_STEPS = 700
"""Steps that train the encoder's proposals only."""
STEPS = 2700
"""All steps."""
BATCH_SIZE = 16
PEAK_RATE = 2e-3
JOINT_RATE = 1.2e-3
WARM_UP_STEPS = 50
EMA_DECAY = 0.998
CLASS_WEIGHT = 10.0
MIN_VISIBILITY = 0.3
"""Objects of which less can be seen are no targets."""


def build_detector() -> Any:
    """An untrained `RTDetrV2ForObjectDetection` of about 0.6 million parameters."""
    from transformers import RTDetrResNetConfig, RTDetrV2Config, RTDetrV2ForObjectDetection

    backbone = RTDetrResNetConfig(
        embedding_size=24,
        hidden_sizes=[48, 96, 160, 192],
        depths=[1, 1, 1, 1],
        layer_type="bottleneck",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = RTDetrV2Config(
        backbone_config=backbone,
        freeze_backbone_batch_norms=False,
        encoder_hidden_dim=64,
        encoder_in_channels=[96, 160, 192],
        encoder_ffn_dim=128,
        encoder_attention_heads=4,
        hidden_expansion=0.5,
        d_model=64,
        num_queries=30,
        decoder_in_channels=[64, 64, 64],
        decoder_ffn_dim=128,
        decoder_layers=2,
        decoder_attention_heads=4,
        num_denoising=30,
        anchor_image_size=None,
        initializer_range=0.02,
        id2label=dict(enumerate(CLASSES)),
        label2id={name: number for number, name in enumerate(CLASSES)},
    )
    return RTDetrV2ForObjectDetection(config)


def targets_of(batch: Batch) -> list[dict[str, torch.Tensor]]:
    """DETR labels: `class_labels` int64 (n,) and `boxes` float32 (n, 4), cxcywh in 0..1."""
    import torch

    labels = []
    for objects in batch.objects:
        seen = [o for o in objects if o.visibility >= MIN_VISIBILITY]
        corners = torch.tensor([o.box for o in seen], dtype=torch.float32).reshape(-1, 4)
        corners = corners / torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
        middle = (corners[:, :2] + corners[:, 2:]) / 2
        boxes = torch.cat([middle, corners[:, 2:] - corners[:, :2]], dim=1)
        classes = torch.tensor([o.class_id for o in seen], dtype=torch.long)
        labels.append({"class_labels": classes, "boxes": boxes})
    return labels


def pixels_of(images: Any) -> torch.Tensor:
    """uint8 (n, height, width, 3) to float32 (n, 3, height, width) in 0..1."""
    import torch

    # Channels-last stays as it is in memory, and convolutions on a CPU are a fifth faster on it.
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def train_detector(
    folder: Path, log: Callable[[str], None], *, steps_scale: float = 1.0, seed: int = 0
) -> Any:
    """Train for `STEPS * steps_scale` steps, save to `folder`, return the averaged model."""
    import torch

    torch.manual_seed(seed)
    steps = max(2, round(STEPS * steps_scale))
    alone = max(1, round(PROPOSAL_STEPS * steps_scale))
    model = build_detector().to(memory_format=torch.channels_last)
    # Few tokens hold an object: start from that prior.
    torch.nn.init.constant_(model.model.enc_score_head.bias, -4.0)
    log(f"detector: {sum(p.numel() for p in model.parameters()):,} parameters, {steps} steps")
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _rate(alone, steps))
    average = averaged(model, EMA_DECAY)
    model.train()
    started = time.monotonic()
    shown = 0.0
    for step, batch in enumerate(training_batches(steps, BATCH_SIZE), start=1):
        labels, pixels = targets_of(batch), pixels_of(batch.images)
        if step <= alone:
            loss = proposal_loss(*proposals(model, pixels), labels)
        else:
            outputs = model(pixel_values=pixels, labels=labels)
            loss = outputs.loss
            fade = 1 - (step - alone) / (0.6 * (steps - alone))
            if fade > 0:
                boxes = outputs.enc_outputs_coord_logits.sigmoid()
                loss = loss + fade * proposal_loss(outputs.enc_outputs_class, boxes, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(model)
        shown += loss.item()
        if step % 50 == 0 or step == steps:
            mean = shown / (step % 50 or 50)
            shown = 0.0
            log(
                f"detector step {step}/{steps} loss {mean:.3f} ({time.monotonic() - started:.0f} s)"
            )
    trained = average.module.eval()
    save_detector(trained, folder)
    return trained


def _rate(alone: int, steps: int) -> Callable[[int], float]:
    """Constant after a warm-up while proposals train alone, then a schedule for the whole."""
    joint = rate_schedule(steps - alone, WARM_UP_STEPS)

    def factor(step: int) -> float:
        if step < alone:
            return min(1.0, (step + 1) / WARM_UP_STEPS)
        return JOINT_RATE / PEAK_RATE * joint(step - alone)

    return factor


def save_detector(model: Any, folder: Path) -> None:
    """Write config.json, model.safetensors and preprocessor_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    preprocessor = {
        "image_processor_type": "RTDetrImageProcessor",
        "do_resize": True,
        "size": {"height": HEIGHT, "width": WIDTH},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": False,
        "do_pad": False,
        "format": "coco_detection",
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")


def proposals(model: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the encoder proposes at each token, without the decoder's work.

    Class logits (batch, tokens, classes) and boxes (batch, tokens, 4), cxcywh in 0..1.
    """
    import torch

    core = model.model
    everywhere = torch.ones(len(pixels), *pixels.shape[2:])
    maps = [
        project(source)
        for project, (source, _) in zip(
            core.encoder_input_proj, core.backbone(pixels, everywhere), strict=True
        )
    ]
    maps = core.encoder(maps).last_hidden_state
    sources = [p(m) for p, m in zip(core.decoder_input_proj, maps, strict=True)]
    anchors, valid = core.generate_anchors(tuple(tuple(s.shape[-2:]) for s in sources))
    memory = valid * torch.cat([s.flatten(2).transpose(1, 2) for s in sources], dim=1)
    memory = core.enc_output(memory)
    return core.enc_score_head(memory), (core.enc_bbox_head(memory) + anchors).sigmoid()


def proposal_loss(
    logits: torch.Tensor, boxes: torch.Tensor, labels: list[dict[str, torch.Tensor]]
) -> torch.Tensor:
    """Focal loss of the class at every token, and GIoU and L1 of the box at those in an object.

    A token belongs to an object when it lies in the middle half of its box; of several, to the
    one whose centre is nearest.
    """
    import torch
    from torch.nn import functional

    centres = _token_centres()
    wanted = torch.zeros_like(logits)
    predicted, truths = [], []
    for number, label in enumerate(labels):
        if len(label["boxes"]) == 0:
            continue
        middles, sizes = label["boxes"][None, :, :2], label["boxes"][None, :, 2:]
        nearest, owner = ((centres[:, None] - middles).abs() / sizes).amax(dim=2).min(dim=1)
        tokens = torch.nonzero(nearest < 0.25).flatten()
        owned = owner[tokens]
        wanted[number, tokens, label["class_labels"][owned]] = 1
        predicted.append(boxes[number, tokens])
        truths.append(label["boxes"][owned])
    chance = logits.sigmoid()
    focus = torch.where(wanted > 0, 0.5 * (1 - chance) ** 2, 0.5 * chance**2)
    cross = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    positives = max(1.0, float(wanted.sum()))
    loss = CLASS_WEIGHT * (focus * cross).sum() / positives
    if not predicted:
        return loss
    guess, truth = torch.cat(predicted), torch.cat(truths)
    return loss + 5 * (guess - truth).abs().sum() / positives + 2 * (1 - _giou(guess, truth)).mean()


def _token_centres() -> torch.Tensor:
    """float32 (tokens, 2) of x, y in 0..1, in the order of the encoder's memory."""
    import torch

    centres = []
    for stride in (8, 16, 32):
        y, x = torch.meshgrid(
            torch.arange(HEIGHT // stride), torch.arange(WIDTH // stride), indexing="ij"
        )
        centre = torch.stack([x.flatten(), y.flatten()], dim=1) + 0.5
        centres.append(centre * stride / torch.tensor([WIDTH, HEIGHT]))
    return torch.cat(centres)


def _giou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Generalised IoU (Rezatofighi et al. 2019) of boxes (n, 4) in cxcywh, pair by pair."""
    import torch

    a1, a2 = a[:, :2] - a[:, 2:] / 2, a[:, :2] + a[:, 2:] / 2
    b1, b2 = b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2
    common = (torch.minimum(a2, b2) - torch.maximum(a1, b1)).clamp(min=0).prod(dim=1)
    union = a[:, 2:].prod(dim=1) + b[:, 2:].prod(dim=1) - common
    hull = (torch.maximum(a2, b2) - torch.minimum(a1, b1)).prod(dim=1)
    return common / union - (hull - union) / hull
