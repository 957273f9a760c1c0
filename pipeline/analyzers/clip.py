"""The `clip` embedder: CLIP's vision tower, or another model that embeds images and text."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipeline.analyzers.base import TableName
from pipeline.analyzers.batching import Batcher
from pipeline.analyzers.columns import embeddings_table
from pipeline.analyzers.models import load_pretrained, model_identity, model_type, resolve_model
from pipeline.analyzers.precision import autocast
from pipeline.analyzers.preprocess import Preprocessing
from pipeline.config import ClipEmbedderConfig
from pipeline.errors import ConfigError
from pipeline.records import PixelFormat

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from pipeline.analyzers.frames import FrameBatch

CLIP_TYPES = ("clip", "clip_vision_model", "clip_text_model")
"""`model_type`s whose towers transformers loads one at a time."""


class ClipEmbedder:
    """An `Analyzer`: one L2-normalised float32 embedding a frame.

    For CLIP the text tower is not loaded. Another family has to offer `get_image_features`, as
    SigLIP does, and is loaded whole.
    """

    name = "embedder"
    table: TableName = "embeddings"
    pixel_format: PixelFormat = "rgb24"

    SEMANTICS: ClassVar[int] = 1

    def __init__(self, config: ClipEmbedderConfig) -> None:
        self._config = config
        self._device = ""
        self._model: Any = None
        self._batcher = Batcher(config.batch, self.name)

    @property
    def notes(self) -> list[str]:
        return self._batcher.notes

    def identity(self) -> dict[str, object]:
        folder = self._folder()
        return {
            "backend": "clip",
            "semantics": self.SEMANTICS,
            "model": model_identity(folder),
            "preprocessing": asdict(Preprocessing.from_folder(folder)),
            "precision": self._config.precision,
        }

    def setup(self, device: str) -> None:
        """Load the model. Raises ConfigError where it cannot be found or embeds no images."""
        folder = self._folder()
        self._preprocessing = Preprocessing.from_folder(folder)
        self._tower = model_type(folder) in CLIP_TYPES
        if self._tower:
            from transformers import CLIPVisionModelWithProjection as Model
        else:
            from transformers import AutoModel as Model
        model = load_pretrained(Model, folder)
        if not self._tower and not hasattr(model, "get_image_features"):
            raise ConfigError(f"{folder}: {type(model).__name__} embeds no images")
        self._model = model.to(device)
        self._device = device

    def analyze(self, frames: FrameBatch) -> pa.Table:
        rgb = frames.rgb(self._device)
        parts = self._batcher.run(
            len(frames), frames.height, frames.width, lambda batch: self._embed(rgb[batch])
        )
        return embeddings_table(np.concatenate(parts))

    def _embed(self, rgb: torch.Tensor) -> np.ndarray:
        """float32 (n, dimensions) of unit length."""
        import torch
        from torch.nn import functional

        with torch.inference_mode():
            pictures = self._preprocessing.apply(rgb)
            with autocast(self._config.precision, self._device):
                if self._tower:
                    features = self._model(pixel_values=pictures).image_embeds
                else:
                    features = pooled(self._model.get_image_features(pixel_values=pictures))
            unit: np.ndarray = functional.normalize(features.float(), dim=-1).cpu().numpy()
        return unit

    def _folder(self) -> Path:
        return resolve_model(self._config.model, self._config.revision)


def pooled(features: Any) -> Any:
    """The tensor of `get_image_features` or `get_text_features`.

    Some models of transformers 5 wrap it in an output object, some return it as it is.
    """
    return getattr(features, "pooler_output", features)
