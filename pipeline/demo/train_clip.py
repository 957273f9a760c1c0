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
PEAK_RATE = 1e-3
WARM_UP_STEPS = 150
EMA_DECAY = 0.998
IMAGE_SIZE = 96
PATCH_SIZE = 8
EMBEDDING_SIZE = 128
PATCH_WEIGHT = 1000.0
"""Makes both losses of about one size."""
CONJUNCTIONS_A_STEP = 24
FIRST_SAMPLE = 10_000_000
"""Number of the first training sample: other frames than those of the detector."""

# Between these visibilities it is a matter of taste whether a phrase holds; no loss is taken.
_SURE, _POSSIBLE = 0.5, 0.3

_PATCH_KINDS = len(CLASSES) + len(COLOURS) + len(SHAPES)
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
    model = CLIPModel(
        CLIPConfig(
            text_config=text.to_dict(),
            vision_config=vision.to_dict(),
            projection_dim=EMBEDDING_SIZE,
        )
    )
    _look_nearby_first(model.vision_model)
    return model


def _look_nearby_first(vision: Any) -> None:
    """Start the image tower with attention to neighbouring patches, as a convolution would.

    Mimetic initialisation (Trockman and Kolter 2023, arXiv 2305.09828): sinusoidal positions,
    query times key near the identity, value times output near its negative.
    """
    import torch

    embeddings = vision.embeddings
    side = IMAGE_SIZE // PATCH_SIZE
    sharpness = 1.3  # attention then reaches a patch or two
    quarter = vision.config.hidden_size // 4
    rates = 1.0 / (side ** (torch.arange(quarter) / quarter))
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [place.flatten()[:, None] * rates for place in (x, y)]
    waves = [turn(angle) for angle in angles for turn in (torch.sin, torch.cos)]
    with torch.no_grad():
        embeddings.position_embedding.weight[1:] = 0.4 * torch.cat(waves, dim=1)
        torch.nn.init.normal_(embeddings.patch_embedding.weight, std=0.05)
        for layer in vision.encoder.layers:
            attention = layer.self_attn
            hidden, heads = attention.embed_dim, attention.num_heads
            size = hidden // heads
            for head in range(heads):
                mixed = 0.7 * torch.randn(hidden, hidden) / hidden**0.5 + 0.7 * torch.eye(hidden)
                left, strength, right = torch.linalg.svd(mixed)
                root = strength[:size].sqrt()[:, None]
                rows = slice(head * size, (head + 1) * size)
                attention.q_proj.weight[rows] = left.T[:size] * root * sharpness
                attention.k_proj.weight[rows] = right[:size] * root * sharpness
            mixed = 0.4 * torch.randn(hidden, hidden) / hidden**0.5 - 0.4 * torch.eye(hidden)
            left, strength, right = torch.linalg.svd(mixed)
            attention.v_proj.weight.copy_(strength.sqrt()[:, None] * right)
            attention.out_proj.weight.copy_(left * strength.sqrt())


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
    patch_head = torch.nn.Linear(model.config.vision_config.hidden_size, _PATCH_KINDS)
    scale = torch.nn.Parameter(torch.tensor(math.log(10.0)))
    bias = torch.nn.Parameter(torch.tensor(-4.0))
    parameters = [*model.parameters(), *patch_head.parameters(), scale, bias]
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
            patch_head(seen.last_hidden_state[:, 1:]), _patch_labels(batch)
        )
        loss = phrase_loss + PATCH_WEIGHT * patch_loss
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
    """What the patches of each image show: float32 (images, patches, classes + colours + shapes).

    A patch shows the object in whose box its middle lies, of several the front one. Naming colour
    and shape apart as well gives each shape six times as many examples.
    """
    import torch

    side = IMAGE_SIZE // PATCH_SIZE
    x = (np.arange(side) + 0.5) * WIDTH / side
    y = (np.arange(side) + 0.5) * HEIGHT / side
    owner = np.full((len(batch.objects), side, side), -1)
    for row, objects in enumerate(batch.objects):
        for o in objects:  # later objects lie in front
            if o.visibility >= _POSSIBLE:
                x1, y1, x2, y2 = o.box
                inside = ((y >= y1) & (y < y2))[:, None] & ((x >= x1) & (x < x2))[None, :]
                owner[row][inside] = o.class_id
    kinds = torch.zeros(len(CLASSES) + 1, _PATCH_KINDS)  # the last row: no object
    for class_id in range(len(CLASSES)):
        colour, shape = divmod(class_id, len(SHAPES))
        for column in (class_id, len(CLASSES) + colour, len(CLASSES) + len(COLOURS) + shape):
            kinds[class_id, column] = 1
    return kinds[torch.from_numpy(owner)].flatten(1, 2)
