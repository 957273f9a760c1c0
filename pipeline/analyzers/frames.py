"""The frames an analyzer is handed: one decoded buffer, and its conversions made once.

Two analyzers on one device share one upload and one conversion to RGB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.records import Pixels

if TYPE_CHECKING:
    import torch


class FrameBatch:
    """Consecutive frames of one size, with their RGB tensor on demand.

    Attributes:
        pixels: the decoded buffer (read-only where it came through the object store).
        width, height: displayed size in pixels.
    """

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels
        self.width = pixels.width
        self.height = pixels.height
        self._rgb: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def rgb(self, device: str) -> torch.Tensor:
        """uint8 RGB tensor (N, 3, height, width) on `device`, converted once and kept.

        On a CPU an rgb24 buffer is viewed, not copied.
        """
        from pipeline.analyzers.preprocess import to_rgb

        if self._rgb is None or self._rgb.device.type != device.split(":")[0]:
            self._rgb = to_rgb(self.pixels, device)
        return self._rgb
