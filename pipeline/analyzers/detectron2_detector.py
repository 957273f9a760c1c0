"""The `detectron2` detector: R-CNNs and RetinaNet, batched, equal to Detectron2's predictor."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipeline.analyzers.base import ModelFacts, TableName, facts_of
from pipeline.analyzers.batching import Batcher
from pipeline.analyzers.columns import detections_table
from pipeline.analyzers.detectron2_model import (
    Detectron2Files,
    build,
    config_sha256,
    default_class_names,
    locate,
    model_config,
    weights_sha256,
)
from pipeline.analyzers.masks import Rle, encode_masks
from pipeline.analyzers.precision import autocast
from pipeline.analyzers.resizing import resize
from pipeline.analyzers.steps import StepTimes
from pipeline.clip_pixels import PixelFormat
from pipeline.config import Detectron2Config

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from pipeline.analyzers.frames import FrameBatch


@dataclass
class _Found:
    """Detections of one batch, by frame and best score first."""

    local: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    keypoints: np.ndarray | None
    masks: Future[list[Rle]] | None
    """Encoded beside the next batch's computation."""


class Detectron2Detector:
    """An `Analyzer`: what `DefaultPredictor` finds frame by frame, in batches of one size.

    Resized on the device as ResizeShortestEdge does (bilinear, antialiased); with
    `INPUT.MIN_SIZE_TEST: 0` not at all.
    """

    name = "detector"
    table: TableName = "detections"
    pixel_format: PixelFormat = "rgb24"

    SEMANTICS: ClassVar[int] = 2

    def __init__(self, config: Detectron2Config) -> None:
        self._config = config
        self._device = ""
        self._model: Any = None
        self.batcher = Batcher(config.batch, self.name)
        self.steps = StepTimes()

    @cached_property
    def _files(self) -> Detectron2Files:
        return locate(self._config)

    @property
    def notes(self) -> list[str]:
        return self.batcher.notes

    def identity(self) -> dict[str, object]:
        node = model_config(self._config, self._files.config)
        return {
            "backend": "detectron2",
            "semantics": self.SEMANTICS,
            "config_sha256": config_sha256(node),
            "weights_sha256": weights_sha256(self._files),
            "class_names": list(self._class_names(node)),
            "threshold": self._config.threshold,
            "masks": self._config.masks,
            "precision": self._config.precision,
        }

    def smallest_side(self) -> int | None:
        return None

    def weights_bytes(self) -> int:
        return self._files.weights.stat().st_size

    def setup(self, device: str) -> None:
        """Load the model. Raises ConfigError where it cannot be found or is no whole detector."""
        node = model_config(self._config, self._files.config)
        self._model = build(node, self._files.weights).to(device)
        self._rcnn = node.MODEL.META_ARCHITECTURE == "GeneralizedRCNN"
        self._bgr = node.INPUT.FORMAT == "BGR"
        self._edges = (int(node.INPUT.MIN_SIZE_TEST), int(node.INPUT.MAX_SIZE_TEST))
        self._names = dict(enumerate(self._class_names(node)))
        self._device = device
        self.steps.on(device)
        self._encoder = ThreadPoolExecutor(1, "masks")

    def facts(self) -> ModelFacts:
        return facts_of(self._model, tuple(self._names.values()))

    def analyze(self, frames: FrameBatch) -> pa.Table:
        rgb = frames.rgb(self._device)
        parts = self.batcher.run(
            len(frames), frames.height, frames.width, lambda batch: self._detect(rgb[batch], batch)
        )
        keypoints = [part.keypoints for part in parts if part.keypoints is not None]
        masks = [rle for part in parts if part.masks is not None for rle in part.masks.result()]
        return detections_table(
            np.concatenate([part.local for part in parts]),
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.classes for part in parts]),
            self._names,
            masks=masks if any(part.masks is not None for part in parts) else None,
            keypoints=np.concatenate(keypoints) if keypoints else None,
        )

    def _detect(self, rgb: torch.Tensor, batch: slice) -> _Found:
        """One batch: frames `batch` of the clip, uint8 (n, 3, height, width)."""
        import torch

        height, width = rgb.shape[-2:]
        target = shortest_edge_size(height, width, *self._edges)
        with torch.inference_mode():
            with self.steps.step("preprocess"):
                small = resize(rgb, target, "bilinear", exact=True)
                if self._bgr:
                    small = small.flip(1)
            inputs = [{"image": one, "height": height, "width": width} for one in small]
            with self.steps.step("forward"), autocast(self._config.precision, self._device):
                if self._rcnn:
                    # Masks stay small squares: pasting them is not the device's work.
                    raw = self._model.inference(inputs, do_postprocess=False)
                else:
                    raw = [one["instances"] for one in self._model(inputs)]
            with self.steps.step("postprocess"):
                columns = [self._columns(one, height, width) for one in raw]
        local = [np.full(len(one["scores"]), batch.start + n) for n, one in enumerate(columns)]

        def joined(name: str) -> np.ndarray:
            return np.concatenate([one[name] for one in columns])

        masks = None
        if "masks" in columns[0]:
            squares = torch.from_numpy(joined("masks"))
            masks = self._encoder.submit(encode_masks, squares, joined("boxes"), height, width)
        return _Found(
            np.concatenate(local).astype(np.int64),
            joined("boxes"),
            joined("scores"),
            joined("classes"),
            joined("keypoints") if "keypoints" in columns[0] else None,
            masks,
        )

    def _columns(self, instances: Any, height: int, width: int) -> dict[str, np.ndarray]:
        """Of one frame: boxes in displayed pixels, and what belongs to them, on the CPU."""
        from detectron2.modeling.postprocessing import detector_postprocess

        if self._rcnn:
            if instances.has("pred_masks"):
                # By another name, or it would paste them here.
                instances.set("squares", instances.pred_masks[:, 0])
                instances.remove("pred_masks")
            instances = detector_postprocess(instances, height, width)
        order = instances.scores.float().argsort(descending=True, stable=True)
        fields = {
            "boxes": instances.pred_boxes.tensor,
            "scores": instances.scores,
            "classes": instances.pred_classes,
        }
        if instances.has("squares"):
            fields["masks"] = instances.squares
        if instances.has("pred_keypoints"):
            fields["keypoints"] = instances.pred_keypoints.flatten(1)
        return {
            name: (value if name == "classes" else value.float())[order].cpu().numpy()
            for name, value in fields.items()
        }

    def _class_names(self, node: Any) -> tuple[str, ...]:
        return self._files.class_names or default_class_names(node)


def shortest_edge_size(height: int, width: int, shortest: int, longest: int) -> tuple[int, int]:
    """(height, width) as Detectron2's ResizeShortestEdge rounds them; 0 leaves the size alone.

    Source: detectron2, `ResizeShortestEdge.get_output_shape` in data/transforms/augmentation_impl.
    """
    if shortest == 0:
        return height, width
    scale = shortest / min(height, width)
    new_height: float = shortest if height < width else scale * height
    new_width: float = scale * width if height < width else shortest
    if max(new_height, new_width) > longest:
        down = longest / max(new_height, new_width)
        new_height, new_width = new_height * down, new_width * down
    return int(new_height + 0.5), int(new_width + 0.5)
