"""Masks and boxes of one frame, between the model's square picture and the displayed one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipeline.tracks.samurai import Box

if TYPE_CHECKING:
    import torch

Size = tuple[int, int]
"""Width and height."""


@dataclass(frozen=True)
class FrameMask:
    """Where the model sees a track."""

    rle: dict[str, Any]
    """As pycocotools has it, of the displayed frame."""
    box: Box
    """Absolute pixels."""
    score: float

    def iou(self, other: FrameMask) -> float:
        """Of the two masks, pixel by pixel."""
        from pycocotools import mask as coco

        return float(coco.iou([self.rle], [other.rle], [0])[0, 0])


def mask_of(logits: torch.Tensor, score: float, size: Size) -> FrameMask | None:
    """The mask of logits (1, 1, h, w), enlarged to `size`; None without a pixel.

    Source: transformers, `post_process_masks` of `image_processing_sam2.py`.
    """
    from pycocotools import mask as coco
    from torch.nn import functional

    width, height = size
    large = functional.interpolate(
        logits, size=(height, width), mode="bilinear", align_corners=False
    )
    # Run lengths go down the columns.
    columns = (large[0, 0] > 0).T.contiguous().byte().cpu().numpy()
    rle = coco.encode(columns.T)
    x, y, across, down = coco.toBbox(rle).tolist()
    if not across:
        return None
    return FrameMask(rle, (x, y, x + across, y + down), score)


@dataclass(frozen=True)
class Scale:
    """Between a picture and the square that the model sees of it."""

    size: Size
    side: int

    def to_model(self, box: Box) -> Box:
        """The first and last column and row of a box in the model's picture."""
        across, down = self.side / self.size[0], self.side / self.size[1]
        return box[0] * across, box[1] * down, box[2] * across - 1, box[3] * down - 1

    def to_picture(self, box: Box) -> Box:
        """The other way."""
        across, down = self.size[0] / self.side, self.size[1] / self.side
        return box[0] * across, box[1] * down, (box[2] + 1) * across, (box[3] + 1) * down


def clipped(box: Box, size: Size) -> Box | None:
    """The part of a box that lies in the picture; None where there is none."""
    if not all(map(math.isfinite, box)):
        return None
    x1, y1 = max(box[0], 0.0), max(box[1], 0.0)
    x2, y2 = min(box[2], float(size[0])), min(box[3], float(size[1]))
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


class Once:
    """The model's picture of a frame, made where a track looks at it."""

    def __init__(self, make: Callable[[], torch.Tensor]) -> None:
        self._make = make

    @cached_property
    def value(self) -> torch.Tensor:
        return self._make()
