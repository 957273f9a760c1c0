"""Tiny models with random weights, saved as checkpoints are, and frames to show them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.clip_pixels import Pixels

CLASSES = {0: "cat", 1: "dog", 2: "fish"}

RT_DETR_PROCESSOR = {
    "image_processor_type": "RTDetrImageProcessor",
    "do_resize": True,
    "size": {"height": 64, "width": 96},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": False,
    "do_pad": False,
}
DETR_PROCESSOR = {
    "image_processor_type": "DetrImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 64, "longest_edge": 100},
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "format": "coco_detection",
}
YOLOS_PROCESSOR = {**DETR_PROCESSOR, "image_processor_type": "YolosImageProcessor"}
CLIP_PROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 48},
    "crop_size": {"height": 48, "width": 48},
    "resample": 3,
}
SIGLIP_PROCESSOR = {
    "image_processor_type": "SiglipImageProcessor",
    "size": {"height": 48, "width": 48},
    "resample": 2,
}
WORDS = ("<pad>", "<bos>", "<unk>", "<eos>", "a", "red", "blue", "circle", "square")


def scene(count: int, width: int, height: int, seed: int = 0) -> np.ndarray:
    """uint8 (count, height, width, 3): smooth colours, hard edges and a little noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    frames = np.empty((count, height, width, 3))
    for frame in frames:
        phases = rng.uniform(0, 6, 6)
        for channel in range(3):
            wave = np.sin(x / 17 + phases[channel]) + np.cos(y / 23 + phases[channel + 3])
            frame[..., channel] = 128 + 45 * wave
        for _ in range(6):
            top, left = rng.integers(0, height), rng.integers(0, width)
            frame[top : top + height // 3, left : left + width // 4] = rng.integers(0, 256, 3)
    frames += rng.normal(0, 4, frames.shape)
    return frames.clip(0, 255).astype(np.uint8)


def rgb_pixels(frames: np.ndarray) -> Pixels:
    return Pixels(frames, "rgb24", frames.shape[2], frames.shape[1])


def save_processor(folder: Path, processor: dict[str, object]) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def save_detector(folder: Path, kind: str) -> None:
    """A detector of `kind` (a model_type) with three classes."""
    import torch

    torch.manual_seed(3)
    model = {"rt_detr_v2": _rt_detr_v2, "detr": _detr, "yolos": _yolos}[kind]()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Fresh weights are so small that signals die out on the way and all queries say the
            # same; biases of fresh heads keep every score low.
            if parameter.ndim > 1:
                parameter.normal_(0, 2 * parameter[0].numel() ** -0.5)
            elif "class_embed" in name or "enc_score" in name:
                parameter.zero_()
    model.save_pretrained(folder)
    processors = {
        "rt_detr_v2": RT_DETR_PROCESSOR,
        "detr": DETR_PROCESSOR,
        "yolos": YOLOS_PROCESSOR,
    }
    save_processor(folder, processors[kind])


def _names() -> dict[str, Any]:
    return {"id2label": CLASSES, "label2id": {name: i for i, name in CLASSES.items()}}


def _rt_detr_v2() -> Any:
    from transformers import RTDetrResNetConfig, RTDetrV2Config, RTDetrV2ForObjectDetection

    backbone = RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="bottleneck",
        out_features=["stage2", "stage3", "stage4"],
    )
    return RTDetrV2ForObjectDetection(
        RTDetrV2Config(
            backbone_config=backbone,
            encoder_hidden_dim=16,
            encoder_in_channels=[16, 16, 16],
            encoder_ffn_dim=16,
            encoder_attention_heads=2,
            hidden_expansion=0.5,
            d_model=16,
            num_queries=12,
            decoder_in_channels=[16, 16, 16],
            decoder_ffn_dim=16,
            decoder_layers=2,
            decoder_attention_heads=2,
            anchor_image_size=None,
            **_names(),
        )
    )


def _detr() -> Any:
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

    backbone = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage4"],
    )
    return DetrForObjectDetection(
        DetrConfig(
            use_timm_backbone=False,
            use_pretrained_backbone=False,
            backbone=None,
            backbone_config=backbone,
            d_model=16,
            num_queries=10,
            encoder_layers=1,
            decoder_layers=1,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            **_names(),
        )
    )


def _yolos() -> Any:
    from transformers import YolosConfig, YolosForObjectDetection

    return YolosForObjectDetection(
        YolosConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=[64, 96],
            patch_size=16,
            num_detection_tokens=10,
            **_names(),
        )
    )


def save_clip(folder: Path) -> None:
    """A CLIP of 48x48 pictures with a tokenizer of a few words."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(5)
    config = CLIPConfig(
        text_config=_text_config(),
        vision_config=_vision_config(),
        projection_dim=24,
    )
    CLIPModel(config).save_pretrained(folder)
    save_processor(folder, CLIP_PROCESSOR)
    _save_tokenizer(folder)


def save_siglip(folder: Path) -> None:
    """A SigLIP of 48x48 pictures: a family whose towers are not loaded one at a time."""
    import torch
    from transformers import SiglipConfig, SiglipModel

    torch.manual_seed(6)
    config = SiglipConfig(text_config=_text_config(), vision_config=_vision_config())
    SiglipModel(config).save_pretrained(folder)
    save_processor(folder, SIGLIP_PROCESSOR)
    _save_tokenizer(folder)


def _text_config() -> dict[str, Any]:
    return {
        "vocab_size": len(WORDS),
        "hidden_size": 32,
        "intermediate_size": 32,
        "projection_dim": 24,
        "projection_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 12,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 3,
    }


def _vision_config() -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "intermediate_size": 32,
        "projection_dim": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 48,
        "patch_size": 16,
    }


def _save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        model_max_length=12,
    ).save_pretrained(folder)
