"""Train the demo's SAM 2: masks of box prompts on single frames, then clips through its memory.

As in Ravi et al. 2024 (SAM 2, arXiv:2408.00714), section D.2: focal and dice loss of masks, of the
best of several masks where there are several, an L1 loss of the predicted IoU, a cross entropy of
whether the object can be seen. The clip is followed as in inference: what the memory holds of a
frame is what was predicted there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.demo.clips import Clips, clip_batches
from pipeline.demo.samples import HEIGHT, WIDTH
from pipeline.demo.schedule import averaged, rate_schedule
from pipeline.demo.tiny_sam2 import HIDDEN, build_sam2, save_sam2

if TYPE_CHECKING:
    import torch

SIDE = 128
GRADED = 64
"""Pixels of the squares in which masks are compared with the truth."""
MEMORIES, POINTERS = 5, 6
"""As many as a clip can train."""
BOX_STEPS = 110
"""First steps, in which the mask of an object is its box: without them to mark all objects alike is
what is learnt, and long kept to."""
STAGES = ((310, 16, 1), (300, 6, 2), (150, 3, 5), (200, 2, 9))
"""Steps, clips a step, and frames of a clip."""
OBJECTS = 3
PEAK_RATE = 1e-3
WARM_UP_STEPS = 50
CONSTANT_SHARE = 0.75
EMA_DECAY = 0.99
FOCAL_WEIGHT, DICE_WEIGHT = 20.0, 1.0
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def train_tracker(
    folder: Path, log: Callable[[str], None], *, steps_scale: float = 1.0, seed: int = 0
) -> None:
    """Train for the steps of `STAGES` times `steps_scale`; save to `folder`, in float16."""
    import torch

    torch.manual_seed(seed)
    model = build_sam2(SIDE, memories=MEMORIES, pointers=POINTERS)
    log(f"tracker: {sum(p.numel() for p in model.parameters()):,} parameters")
    stages = [(max(1, round(steps * steps_scale)), size, t) for steps, size, t in STAGES]
    plan = [(size, frames) for steps, size, frames in stages for _ in range(steps)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _rate(len(plan)))
    average = averaged(model, EMA_DECAY)
    # What dropout and the stability of masks would change is to be as in inference.
    model.eval()
    started = time.monotonic()
    boxes_until = max(1, round(BOX_STEPS * steps_scale))
    for step, clips in enumerate(clip_batches(plan, OBJECTS), start=1):
        loss, iou = clip_loss(model, clips, of_boxes=step <= boxes_until)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(model)
        if step % 25 == 0 or step == len(plan):
            log(
                f"tracker step {step}/{len(plan)} frames {clips.images.shape[1]} "
                f"loss {loss.item():.3f} iou {iou:.3f} ({time.monotonic() - started:.0f} s)"
            )
    save_sam2(average.module.half(), folder)


def _rate(steps: int) -> Callable[[int], float]:
    """Constant after a warm-up, then down for the last steps."""
    constant = round(CONSTANT_SHARE * steps)
    down = rate_schedule(steps - constant, 1)
    return lambda step: min(1.0, (step + 1) / WARM_UP_STEPS) * down(max(0, step - constant))


def clip_loss(model: Any, clips: Clips, *, of_boxes: bool = False) -> tuple[torch.Tensor, float]:
    """Loss, and mean IoU of the masks where the objects can be seen.

    Args:
        of_boxes: take the first frame's boxes for what is to be found.
    """
    import torch

    count, frames, objects = clips.masks.shape[:3]
    every = count * objects
    features, places = _features(model, clips)
    memory: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    masks = torch.from_numpy(clips.masks).transpose(1, 2).flatten(0, 1)
    boxes = torch.from_numpy(clips.boxes).flatten(0, 1)
    losses, ious = [], []
    for at in range(frames):
        # Objects of one clip share its features: (tokens, clips, channels), an object each.
        here = [one[:, at::frames].repeat_interleave(objects, dim=1) for one in features]
        place = places[-1][:, :1].expand(-1, every, -1)
        truth = _filled(boxes) if of_boxes else _shrunk(masks[:, at])
        seen = truth.flatten(1).any(dim=1)
        if at == 0:
            fused = here[-1] + model.no_memory_embedding
            prompts = boxes * torch.tensor([SIDE / WIDTH, SIDE / HEIGHT] * 2)
        else:
            fused = _remembering(model, here[-1], place, memory)
            prompts = None
        found = _decode(model, fused, here[:-1], prompts)
        loss, best, iou = _mask_loss(*found[:2], truth, seen)
        presence = torch.nn.functional.binary_cross_entropy_with_logits(found[3], seen.float())
        losses.append(loss + presence)
        ious.append(iou[seen])
        if frames > 1:
            memory.append(_remember(model, here[-1], *found, best, prompted=at == 0))
    return torch.stack(losses).mean(), float(torch.cat(ious).mean().detach())


def _features(model: Any, clips: Clips) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The encoder's maps of all frames, and where their tokens are: (tokens, frames, channels)."""
    import torch
    from torch.nn import functional

    pixels = torch.from_numpy(clips.images).flatten(0, 1).permute(0, 3, 1, 2)
    small = functional.interpolate(
        pixels, size=(SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False
    )
    mean, deviation = (torch.tensor(one).view(3, 1, 1) for one in (MEAN, DEVIATION))
    found = model.get_image_features((small.float() / 255 - mean) / deviation, return_dict=True)
    return found.fpn_hidden_states, found.fpn_position_encoding


def _remembering(
    model: Any, here: torch.Tensor, place: torch.Tensor, memory: list[Any]
) -> torch.Tensor:
    """The features of a frame with what is remembered of the ones before."""
    import torch

    at, every = len(memory), here.shape[1]
    rows = [(0, 0)] + [(at - one, one) for one in range(max(1, at - MEMORIES + 1), at)]
    held = [memory[one][0] for _, one in rows]
    where = [
        memory[one][1] + model.memory_temporal_positional_encoding[rank - 1] for rank, one in rows
    ]
    near = [0] + [one for one in range(at - 1, 0, -1) if at - one < POINTERS]
    pointers, of_pointers = model._process_object_pointers(
        [at - one for one in near],
        [memory[one][2] for one in near],
        POINTERS,
        every,
        HIDDEN,
        here.device,
    )
    fused = model.memory_attention(
        current_vision_features=here,
        current_vision_position_embeddings=place,
        memory=torch.cat([*held, pointers]),
        memory_posision_embeddings=torch.cat([*where, of_pointers]),
        num_object_pointer_tokens=len(pointers),
    )
    return fused[0].transpose(0, 1)


def _decode(
    model: Any, fused: torch.Tensor, fine: list[torch.Tensor], boxes: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Masks (n, masks, SIDE // 4, SIDE // 4), their IoUs (n, masks), tokens, and a logit (n,)."""
    import torch

    count = fused.shape[1]
    maps = [
        one.permute(1, 2, 0).unflatten(2, tuple(size))
        for one, size in zip([*fine, fused], model.backbone_feature_sizes, strict=True)
    ]
    if boxes is None:
        points = torch.zeros(count, 1, 1, 2)
        labels = -torch.ones(count, 1, 1, dtype=torch.int32)
    else:
        points = boxes.view(count, 1, 2, 2)
        labels = torch.tensor([2, 3], dtype=torch.int32).expand(count, 1, 2)
    sparse, dense = model.prompt_encoder(points, labels, None, None)
    masks, ious, tokens, score = model.mask_decoder(
        image_embeddings=maps[-1],
        image_positional_embeddings=model.get_image_wide_positional_embeddings().expand(
            count, -1, -1, -1
        ),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=boxes is None,
        high_resolution_features=maps[:-1],
    )
    return masks[:, 0], ious[:, 0], tokens[:, 0], score[:, 0, 0]


def _mask_loss(
    masks: torch.Tensor, ious: torch.Tensor, truth: torch.Tensor, seen: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Loss, the mask of each that the model thinks best, and the IoU of that one, (n,)."""
    import torch
    from torch.nn import functional

    large = functional.interpolate(masks, size=(GRADED, GRADED), mode="bilinear")
    wanted = truth[:, None].float().expand_as(large)
    cross = functional.binary_cross_entropy_with_logits(large, wanted, reduction="none")
    chance = large.sigmoid()
    off = (chance - wanted).abs()
    focal = (torch.where(wanted > 0, 0.75, 0.25) * off**2 * cross).mean(dim=(2, 3))
    common = (chance * wanted).sum(dim=(2, 3))
    dice = 1 - (2 * common + 1) / (chance.sum(dim=(2, 3)) + wanted.sum(dim=(2, 3)) + 1)
    each = FOCAL_WEIGHT * focal + DICE_WEIGHT * dice
    inside = large > 0
    both = (inside & (wanted > 0)).sum(dim=(2, 3))
    either = (inside | (wanted > 0)).sum(dim=(2, 3))
    actual = both / either.clamp(min=1)
    loss = each.min(dim=1).values + (ious - actual).abs().mean(dim=1)
    best = ious.argmax(dim=1)
    mean = (loss * seen).sum() / seen.sum().clamp(min=1)
    return mean, best, actual.gather(1, best[:, None])[:, 0]


def _remember(
    model: Any,
    here: torch.Tensor,
    masks: torch.Tensor,
    ious: torch.Tensor,
    tokens: torch.Tensor,
    score: torch.Tensor,
    best: torch.Tensor,
    *,
    prompted: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a frame leaves: memory (tokens, n, 64), where it is, and pointer (n, HIDDEN)."""
    import torch
    from torch.nn import functional

    every = torch.arange(len(best))
    there = (score > 0).float()[:, None]
    chosen = torch.where(there[..., None, None] > 0, masks[every, best][:, None], -1024.0)
    large = functional.interpolate(chosen, size=(SIDE, SIDE), mode="bilinear")
    memory, where = model._encode_new_memory(here, large, score[:, None, None], prompted)
    pointer = model.object_pointer_proj(tokens[every, best])
    pointer = there * pointer + (1 - there) * model.no_object_pointer
    return memory.float(), where, pointer


def _filled(boxes: torch.Tensor) -> torch.Tensor:
    """bool (n, GRADED, GRADED): the inside of boxes (n, 4)."""
    import torch

    middles = torch.arange(GRADED) + 0.5
    x, y = middles * WIDTH / GRADED, middles * HEIGHT / GRADED
    x1, y1, x2, y2 = boxes[..., None].unbind(dim=1)
    across, down = (x > x1) & (x < x2), (y > y1) & (y < y2)
    return down[:, :, None] & across[:, None, :]


def _shrunk(masks: torch.Tensor) -> torch.Tensor:
    """bool (n, height, width) to (n, GRADED, GRADED): of each cell the pixel in its middle."""
    import torch

    rows = ((torch.arange(GRADED) + 0.5) * HEIGHT / GRADED).long()
    columns = ((torch.arange(GRADED) + 0.5) * WIDTH / GRADED).long()
    return masks[:, rows][:, :, columns]
