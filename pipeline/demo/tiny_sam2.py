"""A SAM 2 of about two million parameters: for the demo world, tests and measurements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HIDDEN = 128
"""Channels of the features: the smallest, since transformers takes memories of 64 channels only,
and an object pointer is cut into memories."""
MEMORY = 64
_FREQUENCY = 0.3


def build_sam2(
    side: int,
    memory_layers: int = 2,
    decoder_layers: int = 2,
    memories: int = 7,
    pointers: int = 16,
) -> Any:
    """An untrained `Sam2VideoModel` that sees pictures of `side` pixels squared.

    Args:
        memories: frames of memory, the prompted one among them.
        pointers: frames of which the object's pointer is read, this one among them.
    """
    from transformers import (
        Sam2HieraDetConfig,
        Sam2VideoConfig,
        Sam2VideoModel,
        Sam2VisionConfig,
    )

    backbone = Sam2HieraDetConfig(
        image_size=[side, side],
        hidden_size=24,
        num_attention_heads=1,
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[24, 48, 96, 192],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[8, 4, 4, 2],
        # Not the first of a stage: that one makes the picture smaller.
        global_attention_blocks=[3],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[192, 96, 48, 24],
        backbone_feature_sizes=[[side // step, side // step] for step in (4, 8, 16)],
        fpn_hidden_size=HIDDEN,
    )
    config = Sam2VideoConfig(
        vision_config=vision.to_dict(),
        prompt_encoder_config={"hidden_size": HIDDEN, "image_size": side, "patch_size": 16},
        mask_decoder_config={
            "hidden_size": HIDDEN,
            "mlp_dim": 2 * HIDDEN,
            "num_hidden_layers": decoder_layers,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": HIDDEN,
        },
        image_size=side,
        initializer_range=0.04,
        num_maskmem=memories,
        max_object_pointers_in_encoder=pointers,
        memory_attention_hidden_size=HIDDEN,
        memory_attention_num_layers=memory_layers,
        memory_attention_feed_forward_hidden_size=2 * HIDDEN,
        memory_attention_rope_feat_sizes=[side // 16] * 2,
        # Waves as long as the few places are wide; a checkpoint's 10,000 is for 64 of them.
        rope_parameters={"rope_type": "axial", "rope_theta": 10.0},
        memory_encoder_hidden_size=HIDDEN,
        memory_encoder_output_channels=MEMORY,
        mask_downsampler_embed_dim=HIDDEN,
        memory_fuser_embed_dim=HIDDEN,
        memory_fuser_intermediate_dim=2 * HIDDEN,
    )
    model = Sam2VideoModel(config)
    # One random encoding of places, for the picture and for prompts, as in checkpoints; of lower
    # frequencies than theirs, since there are few places.
    shared = model.shared_image_embedding.positional_embedding.mul_(_FREQUENCY)
    model.prompt_encoder.shared_embedding.positional_embedding.copy_(shared)
    return model


def save_sam2(model: Any, folder: Path) -> None:
    """Write config.json, model.safetensors and preprocessor_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    side = model.config.image_size
    preprocessor = {
        "image_processor_type": "Sam2ImageProcessor",
        "do_resize": True,
        "size": {"height": side, "width": side},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")
