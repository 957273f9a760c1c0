"""The `clip` embedder: CLIP's vision tower, or another model that embeds images and text."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipeline.analyzers.base import ModelFacts, TableName, facts_of
from pipeline.analyzers.batching import Batcher
from pipeline.analyzers.columns import embeddings_table
from pipeline.analyzers.models import model_identity, resolve_model, weight_files
from pipeline.analyzers.precision import autocast
from pipeline.analyzers.preprocess import Preprocessing
from pipeline.analyzers.steps import StepTimes
from pipeline.analyzers.towers import load_tower
from pipeline.clip_pixels import PixelFormat
from pipeline.config import ClipEmbedderConfig

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from pipeline.analyzers.frames import FrameBatch


class ClipEmbedder:
    """An `Analyzer`: one L2-normalised float32 embedding a frame.

    Of CLIP and SigLIP the text tower is not loaded; see `towers` for others.
    """

    name = "embedder"
    table: TableName = "embeddings"
    pixel_format: PixelFormat = "rgb24"

    SEMANTICS: ClassVar[int] = 1

    def __init__(self, config: ClipEmbedderConfig) -> None:
        self._config = config
        self._device = ""
        self._model: Any = None
        self.batcher = Batcher(config.batch, self.name)
        self.steps = StepTimes()

    @property
    def notes(self) -> list[str]:
        return self.batcher.notes

    def identity(self) -> dict[str, object]:
        folder = self._folder()
        return {
            "backend": "clip",
            "semantics": self.SEMANTICS,
            "model": model_identity(folder),
            "preprocessing": asdict(Preprocessing.from_folder(folder)),
            "precision": self._config.precision,
        }

    def smallest_side(self) -> int | None:
        return Preprocessing.from_folder(self._folder()).smallest_side

    def weights_bytes(self) -> int:
        return sum(file.stat().st_size for file in weight_files(self._folder()))

    def setup(self, device: str) -> None:
        """Load the model. Raises ConfigError where it cannot be found or embeds no images."""
        folder = self._folder()
        self._preprocessing = Preprocessing.from_folder(folder)
        self._model, self._features = load_tower(folder, "image")
        self._model.to(device)
        if self._config.compile:
            # The last batch of a clip is smaller than the others: one kernel for any size.
            self._model.compile(dynamic=True)
        self._device = device
        self.steps.on(device)

    def facts(self) -> ModelFacts:
        return facts_of(self._model)

    def analyze(self, frames: FrameBatch) -> pa.Table:
        rgb = frames.rgb(self._device)
        parts = self.batcher.run(
            len(frames), frames.height, frames.width, lambda batch: self._embed(rgb[batch])
        )
        return embeddings_table(np.concatenate(parts))

    def _embed(self, rgb: torch.Tensor) -> np.ndarray:
        """float32 (n, dimensions) of unit length."""
        import torch
        from torch.nn import functional

        with torch.inference_mode():
            with self.steps.step("preprocess"):
                inputs = self._preprocessing.inputs(rgb, exact=False)
            with self.steps.step("forward"), autocast(self._config.precision, self._device):
                features = self._features(**inputs)
            with self.steps.step("postprocess"):
                unit = functional.normalize(features.float(), dim=-1)
                found: np.ndarray = unit.cpu().numpy()
        return found

    def _folder(self) -> Path:
        return resolve_model(self._config.model, self._config.revision)
