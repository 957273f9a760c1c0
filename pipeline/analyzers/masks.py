"""Instance masks of a detector, small squares in boxes, to COCO run-length encoding."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np

if TYPE_CHECKING:
    import torch


class Rle(TypedDict):
    """COCO run-length encoding, compressed; size is (height, width)."""

    size: list[int]
    counts: str


def encode_masks(masks: torch.Tensor, boxes: np.ndarray, height: int, width: int) -> list[Rle]:
    """Paste each mask into its box and encode it. On the CPU, one mask at a time.

    Pasted by Detectron2 with the axes swapped: run lengths go down the columns, and so they lie
    one after another in memory (a transposition afterwards costs more than pasting).

    Args:
        masks: float32 (n, m, m) on the CPU, probabilities.
        boxes: float32 (n, 4): x1, y1, x2, y2 in displayed pixels.
        height, width: of the frame.
    """
    import torch
    from detectron2.layers.mask_ops import paste_masks_in_image
    from pycocotools import mask as coco

    swapped = torch.from_numpy(np.ascontiguousarray(boxes[:, [1, 0, 3, 2]], dtype=np.float32))
    encoded: list[Rle] = []
    with torch.inference_mode():
        for number in range(len(masks)):
            one = slice(number, number + 1)
            pasted = paste_masks_in_image(
                masks[one].transpose(1, 2), swapped[one], (width, height), threshold=0.5
            )
            columns = pasted[0].numpy().view(np.uint8)
            rle = coco.encode(columns.T)
            encoded.append({"size": [height, width], "counts": rle["counts"].decode("ascii")})
    return encoded
