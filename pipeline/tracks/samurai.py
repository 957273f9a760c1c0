"""SAMURAI's decisions: which of SAM 2's masks is the object, and which frames are remembered.

Source: Yang et al. 2024, "SAMURAI: Adapting Segment Anything Model for Zero-Shot Visual Tracking
with Motion-Aware Memory", arXiv:2411.11922, with the constants of its code
(github.com/yangchris11/samurai, `sam2/modeling/sam2_base.py` and `sam2/utils/kalman_filter.py`,
Apache-2.0); the filter there is that of DeepSORT (Wojke et al. 2017, arXiv:1703.07402).

    stable == 0               best score; the filter begins with its box; stable = 1
    stable < stable_frames    predict; best score; above stable_iou: update and count, else 0
    after that                predict; best of w * agreement + (1 - w) * score;
                              score below stable_iou: stable = 0, else update

Where this differs: the filter belongs to a track, and a mask without a pixel neither begins nor
updates it. It counts as a bad frame, so that a track that is found again begins its filter anew.

Boxes are (x1, y1, x2, y2): the first and last column and row of a mask in the model's square
picture. A step is a sampled frame. Numbers are float64, plain floats outside of the filter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from pipeline.config_trackers import Sam2Config

Box = tuple[float, float, float, float]

_POSITION, _VELOCITY = 1 / 20, 1 / 160
"""Standard deviations, of the object's height."""
_ASPECT, _ASPECT_VELOCITY, _MEASURED_ASPECT = 1e-2, 1e-5, 1e-1
_MOTION = np.eye(8) + np.eye(8, k=4)


@dataclass
class Motion:
    """A constant-velocity Kalman filter of one object's box: centre x and y, aspect, height."""

    mean: np.ndarray | None = None
    """(8,): the four and their velocities; None before it has begun."""
    covariance: np.ndarray = field(default_factory=lambda: np.zeros((8, 8)))
    stable: int = 0
    """Good frames in a row, up to when they are enough."""

    def begin(self, box: Box) -> None:
        """From one box, at rest."""
        seen = _measured(box)
        deviations = _deviations(seen[3], 2, 10, _ASPECT)
        self.mean = np.concatenate([seen, np.zeros(4)])
        self.covariance = np.diag(np.square(deviations))

    def predict(self) -> None:
        """One step on."""
        assert self.mean is not None
        noise = np.diag(np.square(_deviations(self.mean[3], 1, 1, _ASPECT)))
        self.mean = _MOTION @ self.mean
        self.covariance = _MOTION @ self.covariance @ _MOTION.T + noise

    def update(self, box: Box) -> None:
        """Correct what was predicted by what is seen."""
        assert self.mean is not None
        noise = _deviations(self.mean[3], 1, 1, _MEASURED_ASPECT)[:4]
        projected = self.covariance[:4, :4] + np.diag(np.square(noise))
        gain = np.linalg.solve(projected, self.covariance[:4]).T
        self.mean = self.mean + gain @ (_measured(box) - self.mean[:4])
        self.covariance = self.covariance - gain @ projected @ gain.T

    @property
    def box(self) -> Box | None:
        """Where the object is, as far as the filter knows; None before it has begun."""
        if self.mean is None:
            return None
        x, y, aspect, height = self.mean[:4].tolist()
        half = aspect * height / 2
        return x - half, y - height / 2, x + half, y + height / 2

    def save(self) -> dict[str, Any]:
        """As JSON has it."""
        mean = None if self.mean is None else self.mean.tolist()
        return {"mean": mean, "covariance": self.covariance.tolist(), "stable": self.stable}

    @classmethod
    def restore(cls, saved: dict[str, Any]) -> Motion:
        mean = None if saved["mean"] is None else np.array(saved["mean"])
        return cls(mean, np.array(saved["covariance"]), saved["stable"])


class Seen(NamedTuple):
    """What is known of an object in one frame."""

    iou: float
    """The model's own score of the mask: the IoU that it expects."""
    object_score: float
    """A logit."""
    kf_iou: float | None
    """IoU of the mask's box and the predicted one; None where that has no say yet."""


def choose(
    motion: Motion, ious: Sequence[float], boxes: Sequence[Box | None], config: Sam2Config
) -> tuple[int, float | None]:
    """The mask that is the object; the filter goes one step on.

    Args:
        motion: of this object; is changed.
        ious: the model's score of each mask.
        boxes: of each mask; None for one without a pixel.

    Returns its place among them, and its agreement with the predicted box once that has a say.
    """
    best = int(np.argmax(ious))
    if motion.stable == 0 or motion.mean is None:
        box = boxes[best]
        if box is not None:
            motion.begin(box)
            motion.stable = 1
        elif motion.mean is not None:
            motion.predict()
        return best, None
    motion.predict()
    if motion.stable < config.stable_frames:
        good = ious[best] > config.stable_iou
        _learn(motion, boxes[best], good, motion.stable + 1)
        return best, None
    predicted = motion.box
    agreement = [box_iou(predicted, box) for box in boxes]
    weight = config.kf_score_weight
    weighted = [weight * a + (1 - weight) * i for a, i in zip(agreement, ious, strict=True)]
    best = int(np.argmax(weighted))
    _learn(motion, boxes[best], ious[best] >= config.stable_iou, motion.stable)
    return best, agreement[best]


def follow(motion: Motion, box: Box | None) -> None:
    """The filter goes one step on, where it has no say in the choice of the mask."""
    if motion.mean is not None:
        motion.predict()
    if box is not None:
        motion.begin(box) if motion.mean is None else motion.update(box)


def may_remember(seen: Seen, config: Sam2Config) -> bool:
    """Whether a frame is good enough for the memory."""
    return (
        seen.iou > config.memory_iou
        and seen.object_score > config.memory_object_score
        and (seen.kf_iou is None or seen.kf_iou > config.memory_kf_score)
    )


def remembered(seen: Mapping[int, Seen], frame: int, most: int, config: Sam2Config) -> list[int]:
    """Which frames `frame` is to remember, the newest first, at most `most`.

    The newest good ones, and the one before this whatever it is like.

    Args:
        seen: by the frame's number, of those before this that were not prompted.
    """
    good = [at for at in sorted(seen, reverse=True) if may_remember(seen[at], config)]
    last = frame - 1
    if last in seen and last not in good:
        good.insert(0, last)
    return good[:most]


def box_iou(one: Box | None, other: Box | None) -> float:
    """0 where one of them is None, or both have no area."""
    if one is None or other is None:
        return 0.0
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    union = sum(areas) - width * height
    return width * height / union if union > 0 else 0.0


def _learn(motion: Motion, box: Box | None, good: bool, stable: int) -> None:
    if good and box is not None:
        motion.update(box)
        motion.stable = stable
    else:
        motion.stable = 0


def _measured(box: Box) -> np.ndarray:
    """Centre x and y, aspect and height; a mask of one row has height 1."""
    x1, y1, x2, y2 = box
    height = (y2 - y1) or 1.0
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / height, height])


def _deviations(height: float, position: float, velocity: float, aspect: float) -> np.ndarray:
    """(8,) standard deviations, with factors for those that go by the height."""
    place, speed = position * _POSITION * height, velocity * _VELOCITY * height
    return np.array([place, place, aspect, place, speed, speed, _ASPECT_VELOCITY, speed])
