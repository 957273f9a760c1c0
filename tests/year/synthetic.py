"""A detector and an embedder without models, whose version is what a new model would be.

What they say of a frame is the index that is drawn in it, so that rows can be held against the
frames they are of. Each call adds a line to a log (analyzer, frames, process), which is the bill.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pipeline.analyzers.base import ModelFacts, TableName
from pipeline.analyzers.columns import detections_table, embeddings_table
from pipeline.analyzers.steps import StepTimes
from pipeline.clip_pixels import PixelFormat
from pipeline.demo.pattern import read_index

MODELS = "FRAMELEDGER_YEAR"
"""Environment variable: versions of the detector and the embedder, seconds a call, the log."""


@dataclass(frozen=True)
class Models:
    """What a run works with."""

    detector: int
    embedder: int
    log: str
    pace_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.detector} {self.embedder} {self.pace_s} {self.log}"

    @classmethod
    def now(cls) -> Models:
        detector, embedder, pace_s, log = os.environ[MODELS].split(" ", 3)
        return cls(int(detector), int(embedder), log, float(pace_s))


class Synthetic:
    """An `Analyzer`."""

    pixel_format: PixelFormat = "rgb24"
    SEMANTICS: ClassVar[int] = 1

    def __init__(self, name: str, table: TableName, version: int, models: Models) -> None:
        self.name, self.table, self._version, self._models = name, table, version, models
        self.notes: list[str] = []
        self.steps = StepTimes()

    def identity(self) -> dict[str, object]:
        return {"backend": "synthetic", "version": self._version}

    def smallest_side(self) -> int | None:
        return None

    def weights_bytes(self) -> int:
        return 0

    def setup(self, device: str) -> None:
        pass

    def facts(self) -> ModelFacts:
        return ModelFacts("the index that is drawn in a frame")

    def analyze(self, frames: Any) -> Any:
        time.sleep(self._models.pace_s)
        drawn = np.array([_drawn(frame) for frame in frames.pixels.data], np.float32)
        with open(self._models.log, "ab") as log:
            log.write(f"{self.name} {len(drawn)} {os.getpid()}\n".encode())
        if self.table == "embeddings":
            version = np.full(len(drawn), self._version, np.float32)
            return embeddings_table(np.stack([drawn, version], axis=1))
        boxes = np.stack([drawn, drawn, drawn + 1, drawn + 1], axis=1)
        scores, classes = np.ones(len(drawn), np.float32), np.zeros(len(drawn), np.int32)
        return detections_table(np.arange(len(drawn)), boxes, scores, classes, {0: "drawn"})


def _drawn(frame: np.ndarray) -> int:
    index = read_index(frame)
    return -1 if index is None else index


def install() -> None:
    """Make these the analyzers of every configuration in this process."""
    from pipeline.analyzers import registry

    def build(_config: object) -> list[Any]:
        models = Models.now()
        detector = Synthetic("detector", "detections", models.detector, models)
        return [detector, Synthetic("embedder", "embeddings", models.embedder, models)]

    registry.build_analyzers = build


def worked(log: Path) -> dict[str, int]:
    """Frames that each analyzer has looked at, by the log."""
    frames = {"detector": 0, "embedder": 0}
    for line in log.read_text().splitlines() if log.exists() else ():
        name, count, _ = line.split()
        frames[name] += int(count)
    return frames


if __name__ == "__main__":
    # `python -m tests.year.synthetic ARGUMENTS`: the command line with these analyzers.
    install()
    from pipeline.cli import main

    sys.argv[0] = "frameledger"
    main()
