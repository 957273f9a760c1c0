"""Embeddings of texts, to search the embeddings of frames with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.analyzers.models import model_type, quiet_transformers
from pipeline.analyzers.towers import load_tower
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "spiece.model")


def text_embeddings(model_folder: Path, texts: list[str]) -> np.ndarray:
    """float32 (len(texts), dimensions) of unit length, comparable to the frames' by dot product.

    Computed on the CPU. Of CLIP and SigLIP the text tower alone is loaded. Texts longer than the
    model reads are cut off. Raises ConfigError where the folder lacks a tokenizer or a text tower.
    """
    import torch
    from torch.nn import functional
    from transformers import AutoTokenizer

    if not any((model_folder / name).is_file() for name in _TOKENIZER_FILES):
        # transformers would make up a tokenizer without words.
        raise ConfigError(f"{model_folder}: no tokenizer for text: tokenizer.json is missing")
    kind = model_type(model_folder)
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(
                model_folder, trust_remote_code=False, local_files_only=True
            )
    except (OSError, ValueError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{model_folder}: the tokenizer cannot be loaded: {reason:.300}"
        ) from error
    model, embed = load_tower(model_folder, "text")
    longest = getattr(model.config, "text_config", model.config).max_position_embeddings
    # SigLIP was trained on texts filled up to the full length, and reads the last position.
    padding = "max_length" if kind.startswith("siglip") else True
    tokens = tokenizer(
        texts, padding=padding, truncation=True, max_length=longest, return_tensors="pt"
    )
    tokens.pop("token_type_ids", None)
    with torch.inference_mode():
        features = embed(**tokens)
        unit: np.ndarray = functional.normalize(features.float(), dim=-1).numpy()
    return unit
