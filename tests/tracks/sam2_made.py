"""A tiny SAM 2 of random weights, and what its tests show it: no checkpoint, no detector.

Every weight has noise, also those that begin as 0 or 1, so that none is without effect. The scores
of its masks are near 0.556, and the gate of SAMURAI's memory is among them, so that it has work.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from pipeline.config_trackers import Sam2Config
from pipeline.demo.tiny_sam2 import build_sam2, save_sam2
from pipeline.demo.world import World
from pipeline.tracks.light import Boxes
from pipeline.tracks.sam2 import Sam2Tracker, Saved, TrackMask
from pipeline.tracks.sam2_model import LoadedSam2, load

SIDE = 64
SIZE = (128, 80)
"""Width and height of the frames."""
FPS = 30


def random_sam2(folder: Path) -> LoadedSam2:
    """Written to a folder, and loaded from there."""
    make = partial(build_sam2, SIDE, memory_layers=1, decoder_layers=1)
    save_sam2(randomised(make), folder)
    return load(folder, "cpu")


def randomised(make: Callable[[], Any]) -> Any:
    """A model, with noise on every weight."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = make()
        with torch.no_grad():
            for weights in model.parameters():
                weights.add_(torch.randn_like(weights) * 0.1)
    return model


def sam2_config(**given: Any) -> Sam2Config:
    """Masks of random weights are not where the boxes are, which is no matter here."""
    loose = {"match_iou": 0.001, "duplicate_iou": 1.0, "new_frames": 1, "lost_seconds": 1000.0}
    return Sam2Config(backend="sam2", model="random", **{**loose, "memory_iou": 0.5555, **given})


@lru_cache(maxsize=64)
def pixels(frame: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """uint8 (h, w, 3): frames of the demo world, over and over."""
    return World(3, *size, frame_count=24).render(frame % 24)


def boxes_of(*rows: tuple[float, float, float, float, float, int]) -> Boxes:
    """Of x1, y1, x2, y2, score and class_id."""
    values = np.array(rows, np.float64).reshape(-1, 6)
    return Boxes(values[:, :4], values[:, 4], values[:, 5].astype(np.int64))


NOTHING = boxes_of()
OBJECTS = tuple((8.0 + 20 * n, 10.0 + 6 * n, 40.0 + 20 * n, 50.0 + 4 * n, 0.9, n) for n in range(4))
"""Four detections, of four classes."""


def run(tracker: Sam2Tracker, frames: range, found: dict[int, Boxes]) -> list[list[TrackMask]]:
    """The rows of each frame; `found` are the detections by frame."""
    return [tracker.step(at / FPS, pixels(at), found.get(at, NOTHING)) for at in frames]


def through_bytes(saved: Saved) -> Saved:
    """As it comes back from a store."""
    return Saved(json.loads(json.dumps(saved.facts)), load_tensors(save_tensors(saved.tensors)))


@contextmanager
def blind(loaded: LoadedSam2) -> Iterator[None]:
    """The model does not see any object, whatever is in the picture."""
    bias = loaded.model.mask_decoder.pred_obj_score_head.proj_out.bias
    with torch.no_grad():
        before = bias.clone()
        bias.sub_(1000)
        yield
        bias.copy_(before)


def differences(one: list[list[TrackMask]], other: list[list[TrackMask]]) -> list[int]:
    """Frames in which two runs differ in anything."""
    assert len(one) == len(other)
    return [at for at, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
