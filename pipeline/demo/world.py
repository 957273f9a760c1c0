"""A seeded world of moving shapes whose every frame has exact ground truth.

Coloured shapes move over a drifting, muted background: they overlap, leave the picture and come
back. All positions are closed-form functions of time, so any frame can be rendered without the
ones before it, and a variable frame rate is only another list of times.

Lengths are given for a picture of 256x160 and scale with the size of the world.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.demo.background import Background
from pipeline.demo.pattern import draw_index, strip_height

SHAPES = ("circle", "square", "triangle")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (224, 36, 36),
    "green": (36, 176, 52),
    "blue": (40, 72, 232),
    "yellow": (240, 220, 40),
    "purple": (158, 40, 200),
    "cyan": (60, 216, 228),
}
"""RGB of each colour: far apart in chroma, so that they survive 4:2:0 subsampling."""

CLASSES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
"""Names of the 18 classes; a class_id is a position in this tuple."""

_RGB = np.array([rgb for rgb in COLOURS.values() for _ in SHAPES], dtype=np.float32)
_REFERENCE_SIZE = (256, 160)
_RADIUS = (17.0, 24.0)
_TILT = 0.3  # radians; a square that stands on a corner would be hard to tell from a circle
_OUTLINE = 1.6

Image = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class WorldObject:
    """One object in one frame."""

    object_id: int
    """Stable over the whole world."""
    class_id: int
    """Position in CLASSES."""
    class_name: str
    box: tuple[float, float, float, float]
    """x1, y1, x2, y2 in pixels of the displayed frame: all of the object that lies in the picture
    above the index strip, hidden by others or not."""
    visibility: float
    """Share in 0..1 of the object's own pixels that can be seen: neither behind another object,
    nor outside the picture, nor under the index strip."""


@dataclass(frozen=True)
class Sprite:
    """One object's shape and its path: home + reach * sin(rate * t + phase), per axis."""

    object_id: int
    class_id: int
    radius: float
    """Half of the side of a square, or of the diameter of a circle, in pixels."""
    home: tuple[float, float]
    reach: tuple[float, float]
    """Pixels."""
    rate: tuple[float, float]
    """Radians a second."""
    phase: tuple[float, float]
    sway: tuple[float, float]
    """The tilt is `_TILT` * sin(rate * t + phase): the rate in radians a second, and the phase."""

    def centre(self, time_s: float) -> tuple[float, float]:
        """x, y in pixels at a time."""
        x, y = (
            home + reach * math.sin(rate * time_s + phase)
            for home, reach, rate, phase in zip(
                self.home, self.reach, self.rate, self.phase, strict=True
            )
        )
        return x, y

    def corners(self, time_s: float) -> npt.NDArray[np.float64] | None:
        """float64 (corners, 2) of x, y in clockwise order on the screen; None for a circle."""
        shape = SHAPES[self.class_id % len(SHAPES)]
        if shape == "circle":
            return None
        # Circumradii that give a square of side 2 * radius and a triangle of about equal area.
        # At no tilt the square lies flat and the triangle points up.
        count, reach = (4, math.sqrt(2)) if shape == "square" else (3, 1.5)
        upright = math.pi / 4 if shape == "square" else -math.pi / 2
        start = upright + _TILT * math.sin(self.sway[0] * time_s + self.sway[1])
        angles = start + np.arange(count) * (2 * math.pi / count)
        offsets = np.stack([np.cos(angles), np.sin(angles)], axis=1) * (reach * self.radius)
        return np.asarray(offsets + np.array(self.centre(time_s)), dtype=np.float64)


class World:
    """`frame_count` frames of a seeded world; two worlds built alike are alike to the bit."""

    def __init__(
        self,
        seed: int,
        width: int = 256,
        height: int = 160,
        frame_count: int = 120,
        *,
        fps: float = 30.0,
        times_s: Sequence[float] | None = None,
        class_ids: Sequence[int] | None = None,
    ) -> None:
        """`times_s` gives each frame its time (default: index / fps).

        `class_ids` names the classes of the objects (default: four to six of them, most in pairs
        of one class, by the seed).
        """
        if width < 32 or height < 24:
            raise ValueError(f"a world is 32x24 or larger: {width = }, {height = }")
        if times_s is not None and len(times_s) != frame_count:
            raise ValueError(f"one time for each frame: {len(times_s) = }, {frame_count = }")
        self.seed = seed
        self.width = width
        self.height = height
        self.frame_count = frame_count
        self.fps = fps
        self.scene_height = height - strip_height(height)
        self._times_s = None if times_s is None else tuple(times_s)
        rng = np.random.default_rng([seed, 0])
        ids = _draw_classes(rng) if class_ids is None else list(class_ids)
        self.sprites = _draw_sprites(rng, ids, width, self.scene_height, self._scale)
        self._background = Background(seed, width, height)

    @property
    def _scale(self) -> float:
        return min(self.width / _REFERENCE_SIZE[0], self.height / _REFERENCE_SIZE[1])

    def time_s(self, frame_index: int) -> float:
        """The time of a frame, in seconds."""
        if not 0 <= frame_index < self.frame_count:
            raise IndexError(f"no such frame: {frame_index = }, {self.frame_count = }")
        return frame_index / self.fps if self._times_s is None else self._times_s[frame_index]

    def objects(self, frame_index: int) -> list[WorldObject]:
        """The objects of which a part lies in the picture (its box is not empty), by id."""
        return self.objects_at(self.time_s(frame_index))

    def objects_at(self, time_s: float) -> list[WorldObject]:
        """As `objects`, at any time in seconds."""
        owner, whole = self._owners(time_s)
        seen = np.bincount(owner.ravel(), minlength=len(self.sprites) + 1)[1:]
        found = []
        for sprite, visible, total in zip(self.sprites, seen, whole, strict=True):
            box = _clip(_extent(sprite, time_s), self.width, self.scene_height)
            if box is not None:
                share = min(1.0, float(visible) / max(1, total))
                name = CLASSES[sprite.class_id]
                found.append(WorldObject(sprite.object_id, sprite.class_id, name, box, share))
        return found

    def owners_at(self, time_s: float) -> Image:
        """What can be seen where: uint8 (height, width), 0 or one more than an object's id."""
        strip = np.zeros((self.height - self.scene_height, self.width), dtype=np.uint8)
        return np.concatenate([self._owners(time_s)[0], strip])

    def _owners(self, time_s: float) -> tuple[Image, list[int]]:
        """That of the scene, and the pixels of each object as if it were alone in a larger one."""
        owner = np.zeros((self.scene_height, self.width), dtype=np.uint8)
        whole: list[int] = []
        for number, sprite in enumerate(self.sprites, start=1):
            x, y, depth = _depth(sprite, time_s)
            inside = depth > 0
            whole.append(int(inside.sum()))
            local, picture = _overlap(x, y, depth.shape, owner.shape)
            owner[picture][inside[local]] = number
        return owner, whole

    def render(self, frame_index: int) -> Image:
        """The displayed frame with its index: uint8 RGB (height, width, 3)."""
        frame = self.render_at(self.time_s(frame_index), frame_index)
        draw_index(frame, frame_index)
        return frame

    def render_at(self, time_s: float, grain_seed: int = 0) -> Image:
        """The scene at any time, without an index: uint8 RGB (height, width, 3)."""
        frame = self._background.at(time_s, grain_seed)
        scene = frame[: self.scene_height]
        outline = max(0.8, _OUTLINE * self._scale)
        for sprite in self.sprites:
            x, y, depth = _depth(sprite, time_s)
            local, picture = _overlap(x, y, depth.shape, scene.shape)
            depth = depth[local]
            if depth.size == 0:
                continue
            # Half a pixel to both sides of an edge is the ramp that anti-aliases it.
            alpha = np.clip(depth + 0.5, 0, 1)[..., None]
            light = 0.45 + 0.55 * np.clip(depth - outline + 0.5, 0, 1)[..., None]
            below = scene[picture].astype(np.float32)
            colour = light * _RGB[sprite.class_id]
            scene[picture] = (below + (colour - below) * alpha + 0.5).astype(np.uint8)
        return frame


def _draw_classes(rng: np.random.Generator) -> list[int]:
    """Four to six class ids in which pairs of one class are common."""
    first, second, third, fourth = (int(c) for c in rng.choice(len(CLASSES), 4, replace=False))
    plans = (
        [first, first, second, second, third, fourth],
        [first, first, second, second, third],
        [first, first, second, third, fourth],
        [first, first, first, second, second],
        [first, second, third, fourth],
    )
    return plans[int(rng.choice(len(plans), p=(0.3, 0.25, 0.2, 0.05, 0.2)))]


def _draw_sprites(
    rng: np.random.Generator, class_ids: list[int], width: int, height: int, scale: float
) -> tuple[Sprite, ...]:
    """Objects whose homes are spread over the picture; every third one wanders out of it."""
    count = len(class_ids)
    slots = rng.permutation(count)
    order = rng.permutation(count)
    sprites = []
    for number in range(count):
        wanders = number % 3 == 2
        home_x = (slots[number] + 0.5 + rng.uniform(-0.3, 0.3)) / count * width
        home_y = rng.uniform(0.22, 0.78) * height
        reach_x = (rng.uniform(0.5, 0.75) if wanders else rng.uniform(0.08, 0.3)) * width
        reach_y = (rng.uniform(0.05, 0.2) if wanders else rng.uniform(0.1, 0.4)) * height
        sprites.append(
            Sprite(
                object_id=number,
                class_id=class_ids[int(order[number])],
                radius=rng.uniform(*_RADIUS) * scale,
                home=(home_x, home_y),
                reach=(reach_x, reach_y),
                rate=(rng.uniform(0.7, 1.6), rng.uniform(0.7, 1.8)),
                phase=(rng.uniform(0, 2 * math.pi), rng.uniform(0, 2 * math.pi)),
                sway=(rng.uniform(0.5, 2.0), rng.uniform(0, 2 * math.pi)),
            )
        )
    return tuple(sprites)


def _extent(sprite: Sprite, time_s: float) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 of the whole object in pixels, wherever it is."""
    corners = sprite.corners(time_s)
    if corners is None:
        x, y = sprite.centre(time_s)
        r = sprite.radius
        return x - r, y - r, x + r, y + r
    low, high = corners.min(axis=0), corners.max(axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _clip(
    box: tuple[float, float, float, float], width: int, height: int
) -> tuple[float, float, float, float] | None:
    x1, y1, x2, y2 = max(0.0, box[0]), max(0.0, box[1]), min(width, box[2]), min(height, box[3])
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def _depth(sprite: Sprite, time_s: float) -> tuple[int, int, FloatArray]:
    """How far inside the object each pixel's centre lies, in pixels (negative outside).

    Returns the picture coordinates x, y of the first pixel and float32 (rows, columns) that
    covers the whole object and a margin of a pixel. All shapes are convex, so the depth is the
    smallest distance to an edge's line.
    """
    x1, y1, x2, y2 = _extent(sprite, time_s)
    left, top = math.floor(x1) - 1, math.floor(y1) - 1
    xs = np.arange(left, math.ceil(x2) + 1, dtype=np.float32) + np.float32(0.5)
    ys = np.arange(top, math.ceil(y2) + 1, dtype=np.float32) + np.float32(0.5)
    corners = sprite.corners(time_s)
    if corners is None:
        x, y = sprite.centre(time_s)
        depth = np.float32(sprite.radius) - np.sqrt(
            np.square(xs - np.float32(x))[None, :] + np.square(ys - np.float32(y))[:, None]
        )
        return left, top, depth
    depth = np.full((len(ys), len(xs)), np.inf, dtype=np.float32)
    for corner, following in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        along = (following - corner) / np.hypot(*(following - corner))
        across_x = (-along[1] * (xs - corner[0])).astype(np.float32)
        across_y = (along[0] * (ys - corner[1])).astype(np.float32)
        np.minimum(depth, across_x[None, :] + across_y[:, None], out=depth)
    return left, top, depth


def _overlap(
    x: int, y: int, size: tuple[int, ...], picture: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of a patch at (x, y) and of the picture that cover the part common to both."""
    rows = (max(0, y), max(0, min(picture[0], y + size[0])))
    columns = (max(0, x), max(0, min(picture[1], x + size[1])))
    if rows[0] >= rows[1] or columns[0] >= columns[1]:
        nothing = (slice(0, 0), slice(0, 0))
        return nothing, nothing
    local = (slice(rows[0] - y, rows[1] - y), slice(columns[0] - x, columns[1] - x))
    return local, (slice(*rows), slice(*columns))
