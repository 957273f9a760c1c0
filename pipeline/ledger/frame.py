"""One frame with all that is known of it, and many of them in columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class Frame:
    """One sampled frame and what the newest analyses say of it."""

    video_id: str
    frame_index: int
    row: dict[str, Any]
    """Its row of `frames`."""
    detections: pa.Table = field(repr=False)
    """Its rows of `detections`, by detection_index."""
    embedding: np.ndarray | None = field(repr=False)
    """float32 (dimensions,), L2-normalised; None where there is none."""


@dataclass(frozen=True)
class FrameBatch:
    """Consecutive frames, in the order of (video_id, frame_index), with all that is theirs."""

    frames: pa.Table = field(repr=False)
    """n rows of `frames`."""
    boxes: pa.Table = field(repr=False)
    """Their rows of `detections`, in the order of the frames, then of detection_index."""
    offsets: np.ndarray = field(repr=False)
    """int64 (n + 1,): the boxes of frame i are rows `offsets[i]` to `offsets[i + 1]`."""
    vectors: np.ndarray = field(repr=False)
    """float32 (m, dimensions): embeddings in the order of the frames that have one."""
    vector_of: np.ndarray = field(repr=False)
    """int64 (n,): which row of `vectors` is the frame's; -1 where it has none."""

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Frame]:
        """Frame by frame; what they hold are views of the batch."""
        for at, row in enumerate(self.frames.to_pylist()):
            yield Frame(
                video_id=row["video_id"],
                frame_index=row["frame_index"],
                row=row,
                detections=self.boxes_of(at),
                embedding=self.embedding_of(at),
            )

    def boxes_of(self, at: int) -> pa.Table:
        """The boxes of the frame at a place of the batch."""
        start, stop = self.offsets[at], self.offsets[at + 1]
        return self.boxes.slice(start, stop - start)

    def embedding_of(self, at: int) -> np.ndarray | None:
        """Its embedding, None where it has none."""
        vector = self.vector_of[at]
        return self.vectors[vector] if vector >= 0 else None
