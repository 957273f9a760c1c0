"""The `transformers` detector: DETR-like models of Hugging Face transformers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipeline.analyzers.base import ModelFacts, TableName, facts_of
from pipeline.analyzers.batching import Batcher
from pipeline.analyzers.columns import detections_table
from pipeline.analyzers.detection_heads import DETECTION_HEADS
from pipeline.analyzers.models import (
    load_pretrained,
    model_identity,
    model_type,
    resolve_model,
    weight_files,
)
from pipeline.analyzers.precision import autocast
from pipeline.analyzers.preprocess import Preprocessing
from pipeline.analyzers.steps import StepTimes
from pipeline.clip_pixels import PixelFormat
from pipeline.config import TransformersDetectorConfig
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from pipeline.analyzers.frames import FrameBatch


class TransformersDetector:
    """An `Analyzer`: boxes above a threshold, in displayed pixels, clipped to the frame.

    A box that lies outside the frame altogether is kept with no area: what the model said is
    not edited, only cut.
    """

    name = "detector"
    table: TableName = "detections"
    pixel_format: PixelFormat = "rgb24"

    SEMANTICS: ClassVar[int] = 2

    def __init__(self, config: TransformersDetectorConfig) -> None:
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
            "backend": "transformers",
            "semantics": self.SEMANTICS,
            "model": model_identity(folder),
            "preprocessing": asdict(Preprocessing.from_folder(folder)),
            "threshold": self._config.threshold,
            "precision": self._config.precision,
        }

    def smallest_side(self) -> int | None:
        return None

    def weights_bytes(self) -> int:
        return sum(file.stat().st_size for file in weight_files(self._folder()))

    def setup(self, device: str) -> None:
        """Load the model. Raises ConfigError where it cannot be found or is no whole detector."""
        folder = self._folder()
        self._preprocessing = Preprocessing.from_folder(folder)
        self._head = DETECTION_HEADS[model_type(folder)]
        from transformers import AutoModelForObjectDetection

        self._model = load_pretrained(AutoModelForObjectDetection, folder).to(device)
        if self._config.compile:
            # The last batch of a clip is smaller than the others: one kernel for any size.
            self._model.compile(dynamic=True)
        self._class_names = {int(i): str(n) for i, n in self._model.config.id2label.items()}
        self._device = device
        self.steps.on(device)

    def facts(self) -> ModelFacts:
        return facts_of(self._model, tuple(self._class_names.values()))

    def analyze(self, frames: FrameBatch) -> pa.Table:
        rgb = frames.rgb(self._device)
        width, height = frames.width, frames.height
        parts = self.batcher.run(
            len(frames),
            height,
            width,
            lambda batch: self._detect(rgb[batch], batch.start, width, height),
        )
        local, boxes, scores, classes = (
            np.concatenate(column) for column in zip(*parts, strict=True)
        )
        return detections_table(local, boxes, scores, classes, self._class_names)

    def _detect(self, rgb: torch.Tensor, first: int, width: int, height: int) -> list[np.ndarray]:
        """One batch, whose first frame is number `first` of the clip.

        Returns frame numbers int64 (n,), boxes float32 (n, 4), scores float32 (n,) and class ids
        int64 (n,), by frame and best score first.
        """
        import torch

        with torch.inference_mode():
            with self.steps.step("preprocess"):
                pictures = self._preprocessing.apply(rgb, exact=True)
            with self.steps.step("forward"), autocast(self._config.precision, self._device):
                outputs = self._model(pixel_values=pictures)
            with self.steps.step("postprocess"):
                scores, classes, boxes = self._head.best(
                    outputs.logits.float(), outputs.pred_boxes.float()
                )
                bounds = boxes.new_tensor([width, height, width, height])
                boxes = torch.minimum((boxes * bounds).clamp_(min=0), bounds)
                keep = scores > self._config.threshold
                frame = keep.nonzero()[:, 0] + first
                kept = (frame, boxes[keep], scores[keep], classes[keep])
                return [column.cpu().numpy() for column in kept]

    def _folder(self) -> Path:
        folder = resolve_model(self._config.model, self._config.revision)
        if (kind := model_type(folder)) not in DETECTION_HEADS:
            raise ConfigError(
                f"{folder / 'config.json'}: model_type = {kind!r} is no detector that is "
                f"supported; {', '.join(DETECTION_HEADS)} are"
            )
        return folder
