"""Train the demo's CLIP: a small image tower and text tower with one embedding space.

CLIP: Radford et al. 2021, arXiv 2103.00020. Many phrases hold for one frame, so each pair of image
and phrase is its own yes-or-no question (SigLIP, Zhai et al. 2023, arXiv 2303.15343): the
probability is sigmoid(scale * cosine + bias). The saved model is an ordinary `CLIPModel` and a
search needs the cosine only.

An auxiliary head, thrown away afterwards, names the class under each patch: it teaches the image
tower to see shapes long before the phrases could.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.demo.queries import Phrase, conjunctions, vocabulary_phrases
from pipeline.demo.samples import HEIGHT, WIDTH, Batch, training_batches
from pipeline.demo.schedule import averaged, rate_schedule
from pipeline.demo.world import CLASSES, COLOURS, SHAPES

if TYPE_CHECKING:
    import torch

STEPS = 1800
BATCH_SIZE = 48
PEAK_RATE = 1.5e-3
WARM_UP_STEPS = 150
EMA_DECAY = 0.998
IMAGE_SIZE = 96
PATCH_SIZE = 8
EMBEDDING_SIZE = 128
CONJUNCTIONS_A_STEP = 24
FIRST_SAMPLE = 10_000_000
"""Number of the first training sample: other frames than those of the detector."""

# Between these visibilities it is a matter of taste whether a phrase holds; no loss is taken.
_SURE, _POSSIBLE = 0.5, 0.3

_PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
_PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)
_PAD, _BOS, _UNKNOWN, _EOS = "<pad>", "<bos>", "<unk>", "<eos>"
_MAX_TOKENS = 16


def vocabulary() -> dict[str, int]:
    """Token to id. `<eos>` must not have id 2: CLIP in transformers then pools the largest id."""
    words = ["a", "an", "one", "two", "three", "the", "of", "and", "photo", *COLOURS]
    words += [form for shape in (*SHAPES, "shape") for form in (shape, shape + "s")]
    return {word: number for number, word in enumerate((_PAD, _BOS, _UNKNOWN, _EOS, *words))}


def build_clip() -> Any:
    """An untrained `CLIPModel` of about 1.2 million parameters."""
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    ids = vocabulary()
    text = CLIPTextConfig(
        vocab_size=len(ids),
        hidden_size=96,
        intermediate_size=192,
        projection_dim=EMBEDDING_SIZE,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=_MAX_TOKENS,
        pad_token_id=ids[_PAD],
        bos_token_id=ids[_BOS],
        eos_token_id=ids[_EOS],
    )
    vision = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=384,
        projection_dim=EMBEDDING_SIZE,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
    )
    return CLIPModel(
        CLIPConfig(
            text_config=text.to_dict(),
            vision_config=vision.to_dict(),
            projection_dim=EMBEDDING_SIZE,
        )
    )


def build_tokenizer() -> Any:
    """A fast tokenizer with one token a word: lower-cased, `<bos>` words `<eos>`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = vocabulary()
    words = Tokenizer(models.WordLevel(ids, unk_token=_UNKNOWN))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single=f"{_BOS} $A {_EOS}", special_tokens=[(_BOS, ids[_BOS]), (_EOS, ids[_EOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token=_PAD,
        bos_token=_BOS,
        eos_token=_EOS,
        unk_token=_UNKNOWN,
        model_max_length=_MAX_TOKENS,
        padding_side="right",
    )


def pixels_of(images: Any) -> torch.Tensor:
    """uint8 (n, height, width, 3) to normalised float32 (n, 3, 96, 96), as the preprocessor says.

    The antialiased bicubic of torch rounds to uint8 as PIL's does.
    """
    import torch
    from torch.nn import functional

    small = functional.interpolate(
        torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2),
        size=(IMAGE_SIZE, IMAGE_SIZE),
        mode="bicubic",
        antialias=True,
    )
    mean = torch.tensor(_PIXEL_MEAN).view(3, 1, 1)
    std = torch.tensor(_PIXEL_STD).view(3, 1, 1)
    return (small.float() / 255 - mean) / std


def train_clip(
    folder: Path, log: Callable[[str], None], *, steps_scale: float = 1.0, seed: int = 0
) -> Any:
    """Train for `STEPS * steps_scale` steps, save to `folder`, return the averaged model."""
    import torch
    from torch.nn import functional

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    steps = max(1, round(STEPS * steps_scale))
    model, tokenizer = build_clip(), build_tokenizer()
    heads = torch.nn.ModuleDict(
        {"patch": torch.nn.Linear(model.config.vision_config.hidden_size, len(CLASSES))}
    )
    scale = torch.nn.Parameter(torch.tensor(math.log(10.0)))
    bias = torch.nn.Parameter(torch.tensor(-4.0))
    parameters = [*model.parameters(), *heads.parameters(), scale, bias]
    log(f"clip: {sum(p.numel() for p in model.parameters()):,} parameters, {steps} steps")
    optimizer = torch.optim.AdamW(parameters, lr=PEAK_RATE, weight_decay=0.02, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate_schedule(steps, WARM_UP_STEPS))
    average = averaged(model, EMA_DECAY)
    fixed, both = vocabulary_phrases(), conjunctions()
    model.train()
    started = time.monotonic()
    shown = np.zeros(2)
    batches = training_batches(steps, BATCH_SIZE, first=FIRST_SAMPLE)
    for step, batch in enumerate(batches, start=1):
        picked = rng.choice(len(both), CONJUNCTIONS_A_STEP, replace=False)
        phrases = [*fixed, *(both[i] for i in picked)]
        tokens = tokenizer([p.text for p in phrases], padding=True, return_tensors="pt")
        seen = model.vision_model(pixel_values=pixels_of(batch.images))
        images = functional.normalize(model.visual_projection(seen.pooler_output), dim=1)
        read = model.text_model(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        )
        texts = functional.normalize(model.text_projection(read.pooler_output), dim=1)
        logits = scale.exp() * images @ texts.T + bias
        holds, certain = phrase_labels(phrases, batch)
        cross = functional.binary_cross_entropy_with_logits(logits, holds, reduction="none")
        phrase_loss = (cross * certain).sum() / BATCH_SIZE
        patch_loss = functional.binary_cross_entropy_with_logits(
            heads["patch"](seen.last_hidden_state[:, 1:]), _patch_labels(batch)
        )
        loss = phrase_loss + 60 * patch_loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(model)
        shown += (phrase_loss.item(), patch_loss.item())
        if step % 50 == 0 or step == steps:
            phrase, patch = shown / (step % 50 or 50)
            shown[:] = 0
            log(
                f"clip step {step}/{steps} phrases {phrase:.3f} patches {patch:.4f} "
                f"scale {scale.exp().item():.1f} ({time.monotonic() - started:.0f} s)"
            )
    trained = average.module.eval()
    with torch.no_grad():
        trained.logit_scale.copy_(scale)
    save_clip(trained, tokenizer, folder)
    return trained


def save_clip(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write the model, the preprocessor's settings and the tokenizer's files."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    preprocessor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        "resample": 3,
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(_PIXEL_MEAN),
        "image_std": list(_PIXEL_STD),
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")


def phrase_labels(phrases: Sequence[Phrase], batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether each phrase holds for each image, and whether that is beyond doubt.

    Both are float32 (images, phrases) of zeros and ones.
    """
    import torch

    slots = max(len(p.needs) for p in phrases)
    classes = torch.zeros(len(phrases), slots, len(CLASSES))
    least = torch.zeros(len(phrases), slots)
    for row, phrase in enumerate(phrases):
        for slot, (ids, count) in enumerate(phrase.needs):
            classes[row, slot, list(ids)] = 1
            least[row, slot] = count

    def holds(visibility: float) -> torch.Tensor:
        counts = torch.zeros(len(batch.objects), len(CLASSES))
        for row, objects in enumerate(batch.objects):
            for o in objects:
                counts[row, o.class_id] += o.visibility >= visibility
        return (torch.einsum("ic,psc->ips", counts, classes) >= least).all(dim=2).float()

    sure, possible = holds(_SURE), holds(_POSSIBLE)
    return sure, (sure == possible).float()


def _patch_labels(batch: Batch) -> torch.Tensor:
    """float32 (images, patches, classes): the class in whose object's middle a patch lies."""
    import torch

    side = IMAGE_SIZE // PATCH_SIZE
    x = (np.arange(side) + 0.5) * WIDTH / side
    y = (np.arange(side) + 0.5) * HEIGHT / side
    labels = torch.zeros(len(batch.objects), side, side, len(CLASSES))
    for row, objects in enumerate(batch.objects):
        for o in objects:
            if o.visibility < _POSSIBLE:
                continue
            x1, y1, x2, y2 = o.box
            # At least about a patch, so that an object at the border of the picture has one too.
            half_x = max((x2 - x1) * 0.32, WIDTH / side * 0.5)
            half_y = max((y2 - y1) * 0.32, HEIGHT / side * 0.5)
            columns = torch.from_numpy(np.abs(x - (x1 + x2) / 2) <= half_x)
            rows = torch.from_numpy(np.abs(y - (y1 + y2) / 2) <= half_y)
            inside = rows[:, None] & columns[None, :]
            labels[row, inside] = 0  # later objects lie in front
            labels[row, inside, o.class_id] = 1
    return labels.flatten(1, 2)


def _rate_schedule(steps: int) -> Callable[[int], float]:
    """Linear warm-up, then half a cosine down to nearly zero."""
    warm_up = min(WARM_UP_STEPS, max(1, steps // 5))

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        done = (step - warm_up) / max(1, steps - warm_up)
        return 0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, done))) / 2

    return factor
