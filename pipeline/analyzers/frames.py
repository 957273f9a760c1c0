"""The frames an analyzer is handed: one decoded buffer, and its conversions made once.

Two analyzers on one device share one upload and one conversion to RGB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.clip_pixels import Pixels

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
        self._uploaded: tuple[torch.Tensor, torch.cuda.Event] | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def rgb(self, device: str) -> torch.Tensor:
        """uint8 RGB tensor (N, 3, height, width) on `device`, converted once and kept.

        On a CPU an rgb24 buffer is viewed, not copied.
        """
        from pipeline.analyzers.preprocess import to_rgb

        if self._rgb is None or self._rgb.device.type != device.split(":")[0]:
            self._rgb = to_rgb(self.pixels, device, self._there())
        return self._rgb

    def upload(self, device: str) -> None:
        """Begin to copy the pixels to a GPU, beside whatever it computes; a CPU has them.

        From pinned memory and in a stream of its own: only so the copy runs by itself.
        """
        if device == "cpu":
            return
        import torch

        from pipeline.analyzers.preprocess import as_tensor

        pinned = torch.empty(self.pixels.data.shape, dtype=torch.uint8, pin_memory=True)
        pinned.copy_(as_tensor(self.pixels.data))
        with torch.cuda.stream(torch.cuda.Stream()):
            there = pinned.to(device, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        self._uploaded = there, arrived

    def _there(self) -> torch.Tensor | None:
        """What `upload` has begun to bring, to be used in the current stream."""
        if self._uploaded is None:
            return None
        import torch

        there, arrived = self._uploaded
        current = torch.cuda.current_stream()
        current.wait_event(arrived)
        there.record_stream(current)
        return there
