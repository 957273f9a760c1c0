"""Errors after which a GPU does not work any more in the process that met them."""

from __future__ import annotations

import sys

_LOST = (
    "illegal memory access",
    "device-side assert",
    "unspecified launch failure",
    "illegal instruction",
    "misaligned address",
    "uncorrectable ecc",
    "hardware stack error",
)
"""Of the CUDA driver's error texts: those that its manual says leave the process "in an
inconsistent state", so that "any further CUDA work will return the same error"."""


def is_device_lost(error: BaseException) -> bool:
    """Whether whatever is computed next in this process would fail as well.

    Running out of memory is no such error. torch raises RuntimeError, or its AcceleratorError.
    """
    # Not imported for this: without torch there is no GPU that could be lost.
    torch = sys.modules.get("torch")
    if torch is None or isinstance(error, torch.OutOfMemoryError):
        return False
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(mark in text for mark in _LOST)
