"""Exports as tests make them, and what has to be in them."""

from __future__ import annotations

from pathlib import Path

from pipeline import Ledger, Where
from pipeline.ledger.frame import Frame
from pipeline.results.export import export
from pipeline.results.export.job import BOX, Counts, Job


def made(output: str, target: Path, to: str, pictures: str | None = None, **where) -> Counts:  # type: ignore[no-untyped-def]
    return export(Job(Ledger(output), target, Where(**where)), to, pictures)


def frames_of(output: str) -> list[Frame]:
    """What an export has to hold."""
    return [frame for frame in Ledger(output).frames() if frame.row["status"] == "ok"]


def boxes_of(frame: Frame) -> list[dict[str, object]]:
    return frame.detections.select(BOX).to_pylist()


def counted(frames: list[Frame]) -> tuple[int, int, int, int]:
    """Videos, frames, boxes, embeddings."""
    boxes = sum(frame.detections.num_rows for frame in frames)
    embedded = sum(frame.embedding is not None for frame in frames)
    return len({frame.video_id for frame in frames}), len(frames), boxes, embedded


def of(counts: Counts) -> tuple[int, int, int, int]:
    return counts.videos, counts.frames, counts.boxes, counts.embeddings
