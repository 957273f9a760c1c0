"""What both trainings share: the learning rate's schedule and the average of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def rate_schedule(steps: int, warm_up_steps: int) -> Callable[[int], float]:
    """Factor of the peak rate by step: a linear warm-up, then half a cosine to nearly zero."""
    warm_up = min(warm_up_steps, max(1, steps // 5))

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        done = (step - warm_up) / max(1, steps - warm_up)
        return 0.005 + 0.995 * (1 + math.cos(math.pi * min(1.0, done))) / 2

    return factor


def averaged(model: torch.nn.Module, decay: float) -> Any:
    """An `AveragedModel` with an exponential moving average of weights and batch-norm statistics.

    The decay starts low, so that a short training's average is not one of its first steps.
    """
    import torch

    @torch.no_grad()
    def blend(
        average: tuple[torch.Tensor, ...] | list[torch.Tensor],
        current: tuple[torch.Tensor, ...] | list[torch.Tensor],
        count: torch.Tensor | int,
    ) -> None:
        share = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        for mean, now in zip(average, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, share)
            else:
                mean.copy_(now)

    return torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=blend, use_buffers=True)
