"""The demo's corpus: six held-out videos that differ in what trips a frame index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from pipeline.demo.queries import TWO_CLASS_IDS, two_of
from pipeline.demo.samples import TRAINING_SEED
from pipeline.demo.video import variable_pts, write_video
from pipeline.demo.world import CLASSES, World, WorldObject

WIDTH, HEIGHT = 256, 160
MIN_RELEVANT_FRAMES = 30
"""In how many frames of its video each pair of one class is seen."""
_SEEDS_A_CORPUS = 1000


@dataclass(frozen=True)
class DemoVideo:
    """A video and the world that it shows."""

    path: Path
    world: World
    description: str
    rotation: int
    """Degrees counter-clockwise that a player applies; 0, 90, 180 or 270."""
    times_s: tuple[float, ...]
    """Time of each frame in seconds, from 0. A container may round it to its own time base."""

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def frame_count(self) -> int:
        return self.world.frame_count

    def truth(self, frame_index: int) -> list[WorldObject]:
        """What is in a frame, in pixels of the displayed picture."""
        return self.world.objects(frame_index)


@dataclass(frozen=True)
class _Recipe:
    name: str
    description: str
    frame_count: int
    settings: dict[str, Any]
    fps: Fraction = Fraction(30)
    variable: bool = False


_RECIPES = (
    _Recipe("plain.mp4", "H.264, a keyframe every second", 120, {"gop": 30}),
    _Recipe(
        "b-frames.mp4", "H.264, B-frames, one keyframe in 100", 150, {"gop": 100, "b_frames": 3}
    ),
    _Recipe(
        "variable-rate.mp4",
        "H.264, variable frame rate",
        120,
        {"gop": 40, "b_frames": 2},
        variable=True,
    ),
    _Recipe("rotated.mp4", "H.264, stored sideways", 96, {"gop": 24, "rotation": 90}),
    _Recipe("vp9.webm", "VP9", 96, {"codec": "libvpx-vp9", "gop": 48}),
    _Recipe(
        "ntsc.mkv",
        "H.264 in Matroska, 29.97 frames a second",
        120,
        {"gop": 60, "b_frames": 2},
        fps=Fraction(30000, 1001),
    ),
)


def make_corpus(folder: Path, *, seed: int = 0) -> list[DemoVideo]:
    """Write the six videos of a seed into `folder`; another seed gives other worlds.

    In each, two classes come in pairs; over the corpus each of the demo's queries holds for at
    least `MIN_RELEVANT_FRAMES` frames. No world is one that the demo's models were trained on.
    """
    if not 0 <= seed < TRAINING_SEED // (_SEEDS_A_CORPUS * len(_RECIPES)):
        raise ValueError(f"seeds from here on belong to training worlds: {seed = }")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    videos = []
    for number, recipe in enumerate(_RECIPES):
        first_seed = (seed * len(_RECIPES) + number) * _SEEDS_A_CORPUS
        if recipe.variable:
            pts, time_base = variable_pts(recipe.frame_count, first_seed)
            times_s = tuple(float(tick * time_base) for tick in pts)
            timing: dict[str, Any] = {"pts": pts, "time_base": time_base}
        else:
            times_s = tuple(float(i / recipe.fps) for i in range(recipe.frame_count))
            timing = {"fps": recipe.fps}
        world = _world_that_shows(first_seed, _classes_of(number), times_s)
        path = write_video(folder / recipe.name, world, **timing, **recipe.settings)
        rotation = recipe.settings.get("rotation", 0)
        videos.append(DemoVideo(path, world, recipe.description, rotation, times_s))
    return videos


def _classes_of(number: int) -> list[int]:
    """Two pairs, an object of a class that is never in a pair, and one of another video's pair.

    The last one tells apart whether a search for two of a class finds pairs or the class.
    """
    count = len(_RECIPES)
    unpaired = [c for c in range(len(CLASSES)) if c not in TWO_CLASS_IDS]
    first, second = TWO_CLASS_IDS[number], TWO_CLASS_IDS[number + count]
    return [first, first, second, second, unpaired[number], TWO_CLASS_IDS[(number + 1) % count]]


def _world_that_shows(first_seed: int, class_ids: Sequence[int], times_s: Sequence[float]) -> World:
    """The first world from a seed on that shows every class, and every pair, often enough."""
    pairs = [two_of(c) for c in set(class_ids) if list(class_ids).count(c) > 1]
    singles = [c for c in set(class_ids) if list(class_ids).count(c) == 1]
    every = 4
    least = MIN_RELEVANT_FRAMES / every
    for seed in range(first_seed, first_seed + _SEEDS_A_CORPUS):
        world = World(
            seed, WIDTH, HEIGHT, frame_count=len(times_s), times_s=times_s, class_ids=class_ids
        )
        looks = [world.objects(i) for i in range(0, world.frame_count, every)]
        paired = all(sum(p.holds(objects) for objects in looks) >= least for p in pairs)
        shown = all(
            sum(any(o.class_id == c and o.visibility > 0.9 for o in objects) for objects in looks)
            >= least
            for c in singles
        )
        if paired and shown:
            return world
    raise ValueError(f"no world shows its pairs long enough: {first_seed = }, {class_ids = }")
