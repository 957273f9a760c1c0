"""Frames for PyTorch: pictures decoded exactly, with their boxes and embeddings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from pipeline.errors import UsageError
from pipeline.results.joined import join
from pipeline.results.pictures import Pictures

if TYPE_CHECKING:
    from pipeline.ledger.frame import Frame
    from pipeline.ledger.reader import Ledger
    from pipeline.results.where import Where

CUT_FRAMES = 128
"""Frames of one range: small, so that workers get equal parts of a short video too."""


class Sample(NamedTuple):
    """A frame as a model sees it."""

    pixels: torch.Tensor
    """uint8 (3, height, width), RGB, as displayed."""
    boxes: torch.Tensor
    """float32 (n, 4): x1, y1, x2, y2 in pixels."""
    scores: torch.Tensor
    """float32 (n,)."""
    class_ids: torch.Tensor
    """int64 (n,)."""
    embedding: torch.Tensor
    """float32 (dimensions,); (0,) where the frame has none."""
    video_id: str
    frame_index: int
    pts_s: float


class FramesDataset(IterableDataset[Sample]):
    """The frames that match, each once, in order; those that could not be decoded left out.

    A DataLoader's workers share them without overlap, each a consecutive part: give it
    `batch_size=None`, or `collate_fn=collate`. What has landed when it is made is what it has,
    however long it is used. Workers have to be spawned (`multiprocessing_context="spawn"`): the
    threads that read tables do not survive a fork.

    Raises UsageError for a video that is not there, and in a worker that was forked; VideoError,
    naming the file, on reading one that is gone or has other bytes now.
    """

    def __init__(
        self, ledger: Ledger, where: Where | None = None, cut_frames: int = CUT_FRAMES
    ) -> None:
        self._joined = join(ledger, where, cut_frames=cut_frames)
        self._pictures = Pictures(ledger)
        self._process = os.getpid()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._process = os.getpid()

    def __iter__(self) -> Iterator[Sample]:
        if os.getpid() != self._process:
            raise UsageError(
                "a DataLoader's workers cannot read tables where they are forked: give it "
                'multiprocessing_context="spawn"'
            )
        worker = get_worker_info()
        part, parts = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        cuts = self._joined.cuts
        for cut in cuts[len(cuts) * part // parts : len(cuts) * (part + 1) // parts]:
            for frame, picture in self._pictures.of(self._joined.read(cut)):
                yield _sample(frame, picture)


def collate(samples: Sequence[Sample]) -> Sample:
    """A batch: tensors of one shape stacked, all else in lists."""
    return Sample(*(_stacked(values) for values in zip(*samples, strict=True)))


def _stacked(values: Sequence[Any]) -> Any:
    if not isinstance(values[0], torch.Tensor) or len({v.shape for v in values}) > 1:
        return list(values)
    return torch.stack(list(values))


def _sample(frame: Frame, picture: np.ndarray) -> Sample:
    boxes = frame.detections
    sides = [boxes.column(side).to_numpy() for side in ("x1", "y1", "x2", "y2")]
    vector = frame.embedding if frame.embedding is not None else np.empty(0, np.float32)
    return Sample(
        pixels=torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))),
        boxes=torch.from_numpy(np.stack(sides, axis=1).astype(np.float32)),
        scores=torch.from_numpy(boxes.column("score").to_numpy().astype(np.float32)),
        class_ids=torch.from_numpy(boxes.column("class_id").to_numpy().astype(np.int64)),
        embedding=torch.from_numpy(vector.copy()),
        video_id=frame.video_id,
        frame_index=frame.frame_index,
        pts_s=frame.row["pts_s"],
    )
