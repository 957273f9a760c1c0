"""The arithmetic a model runs in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

Precision = Literal["fp32", "fp16", "bf16"]


def autocast(precision: Precision, device: str) -> AbstractContextManager[Any]:
    """A context in which torch computes in `precision` where that is safe; fp32: as it is."""
    import torch

    if precision == "fp32":
        return nullcontext()
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.split(":")[0], dtype=dtype)
