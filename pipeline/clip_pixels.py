"""Decoded pictures on their way from a decoder to the analyzers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pipeline.records import Clip

PixelFormat = Literal["rgb24", "yuv420p"]


@dataclass(frozen=True)
class Pixels:
    """Consecutive frames of a clip that share one size, in one contiguous buffer."""

    data: np.ndarray
    """uint8. rgb24: (N, height, width, 3). yuv420p: (N, height * 3 // 2, width), planes Y, U, V
    one after another as FFmpeg's tightly packed yuv420p."""
    format: PixelFormat
    width: int
    height: int
    full_range: bool = False
    """yuv420p only: luma spans 0..255 instead of 16..235."""
    bt709: bool = False
    """yuv420p only: BT.709 coefficients instead of BT.601."""
    scaled_from: tuple[int, int] | None = None
    """Width and height of the displayed pictures that these were made of; None: as displayed."""

    def __post_init__(self) -> None:
        rgb = (self.height, self.width, 3)
        yuv = (self.height * 3 // 2, self.width)
        if self.data.shape[1:] != (rgb if self.format == "rgb24" else yuv):
            raise ValueError(f"{self.data.shape = } is no {self.format} {self.width}x{self.height}")

    def __len__(self) -> int:
        return len(self.data)

    @property
    def displayed(self) -> tuple[int, int]:
        """Width and height of the video's picture, whatever the size here."""
        return self.scaled_from or (self.width, self.height)

    def slice(self, start: int, stop: int) -> Pixels:
        """Frames `[start, stop)`, sharing the buffer."""
        return replace(self, data=self.data[start:stop])


@dataclass(frozen=True)
class ClipPixels:
    """A decoded clip. Carries its ids, so that nothing is matched by position across processes."""

    task_key: str
    attempt: int
    clip: Clip
    positions: np.ndarray
    """int64, ascending: sampled positions of the frames that are here; those that could not be
    decoded are not."""
    parts: tuple[Pixels, ...]
    """One, or more where the picture size changes within the clip; lengths sum to positions.
    Empty where nobody takes whole pictures."""
    decode_s: float
    """Seconds of the decoder's time that went into this clip."""
    scaled: tuple[Pixels, ...] = ()
    """The same pictures made smaller, where the run has a frame cache."""

    @property
    def nbytes(self) -> int:
        return sum(part.data.nbytes for part in (*self.parts, *self.scaled))

    def owned(self, *, scaled: bool = False) -> Iterator[tuple[np.ndarray, Pixels]]:
        """(positions, pixels) of each part, narrowed to the frames that the clip owns."""
        at = 0
        for part in self.scaled if scaled else self.parts:
            positions = self.positions[at : at + len(part)]
            at += len(part)
            lo, hi = np.searchsorted(positions, [self.clip.own_start, self.clip.own_stop])
            if lo < hi:
                yield positions[lo:hi], part.slice(int(lo), int(hi))
