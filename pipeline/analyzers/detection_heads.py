"""From the raw output of a DETR-like model to boxes: the two kinds there are.

Written out here, because transformers keeps it on image processors, which need torchvision or
Pillow. Sources: transformers, `post_process_object_detection` in
`models/detr/image_processing_pil_detr.py` and `models/yolos/image_processing_pil_yolos.py`
(softmax), `models/rt_detr/image_processing_pil_rt_detr.py` (sigmoid, as many as queries),
`models/deformable_detr/image_processing_pil_deformable_detr.py` and
`models/conditional_detr/image_processing_pil_conditional_detr.py` (sigmoid, 100).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class DetectionHead:
    """How a model's logits are meant."""

    softmax: bool
    """True: each query has one class, the last of which is "no object". False: every pair of a
    query and a class is a candidate, scored by a sigmoid."""
    top: int | None = None
    """Of sigmoid candidates the best so many are kept; None: as many as there are queries."""

    def best(
        self, logits: torch.Tensor, boxes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Candidates of each frame, best score first.

        Args:
            logits: float32 (N, queries, classes).
            boxes: float32 (N, queries, 4): centre x, centre y, width, height in 0..1.

        Returns scores (N, k), class ids int64 (N, k) and boxes (N, k, 4) as x1, y1, x2, y2.
        """
        import torch

        if self.softmax:
            scores, classes = logits.softmax(-1)[..., :-1].max(-1)
            scores, query = scores.sort(dim=1, descending=True, stable=True)
            classes = classes.gather(1, query)
        else:
            count, queries, class_count = logits.shape
            candidates = logits.sigmoid().reshape(count, -1)
            k = min(self.top or queries, candidates.shape[1])
            scores, which = candidates.topk(k, dim=1)
            classes = which % class_count
            query = which.div(class_count, rounding_mode="floor")
        centre, size = boxes.split(2, dim=-1)
        corners = torch.cat([centre - size / 2, centre + size / 2], dim=-1)
        return scores, classes, corners.gather(1, query[..., None].expand(-1, -1, 4))


_SOFTMAX = DetectionHead(softmax=True)
_SIGMOID = DetectionHead(softmax=False)
_SIGMOID_100 = DetectionHead(softmax=False, top=100)

DETECTION_HEADS = {
    "detr": _SOFTMAX,
    "table-transformer": _SOFTMAX,
    "yolos": _SOFTMAX,
    "rt_detr": _SIGMOID,
    "rt_detr_v2": _SIGMOID,
    "d_fine": _SIGMOID,
    "rf_detr": _SIGMOID,
    "deimv2": _SIGMOID,
    "conditional_detr": _SIGMOID_100,
    "dab-detr": _SIGMOID_100,
    "deformable_detr": _SIGMOID_100,
    "lw_detr": _SIGMOID_100,
}
"""By `model_type` of config.json."""
