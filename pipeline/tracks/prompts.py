"""Prompts by hand: where an object is in a frame of a video, from a YAML or JSON file.

    - video: lobby-*.mp4              # a name, a uri, or a glob over either
      frame: 120                      # frame_index; a sampled one
      class: red circle               # as the detector names it
      box: [12, 30, 80.5, 96]         # x1, y1, x2, y2; or one of the two below
    - video: lobby-1.mp4
      frame: 400
      class: green square
      points: [[40, 52, 1], [9, 9, 0]]   # x, y, and whether the object is there
    - video: lobby-2.mp4
      frame: 0
      class: green square
      mask: {size: [480, 640], counts: "PPYo0..."}   # COCO RLE, compressed; size: height, width

Coordinates are absolute pixels of the displayed frame. Each prompt begins a track.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import Field, NonNegativeInt, TypeAdapter, ValidationError, model_validator

from pipeline.config_base import FrozenModel
from pipeline.errors import UsageError
from pipeline.tracks.samurai import Box

if TYPE_CHECKING:
    import numpy as np
    import torch

Pixel = Annotated[float, Field(allow_inf_nan=False)]
Point = tuple[Pixel, Pixel, Annotated[int, Field(ge=0, le=1)]]
"""x, y, and 1 where the object is there, 0 where it is not."""
Side = Annotated[int, Field(ge=1, le=65536)]


class RleMask(FrozenModel):
    """COCO run-length encoding, compressed."""

    size: tuple[Side, Side]
    """Height and width."""
    counts: str

    def pixels(self) -> np.ndarray:
        """uint8 (height, width), 1 where the object is. Raises ValueError for damaged counts."""
        from pycocotools import mask as coco

        # pycocotools leaves what runs do not reach as it lies in memory.
        if sum(run_lengths(self.counts)) != self.size[0] * self.size[1]:
            raise ValueError(f"mask: the counts are damaged, or of another size than {self.size}")

        decoded: np.ndarray = coco.decode({"size": list(self.size), "counts": self.counts.encode()})
        return decoded


@dataclass(frozen=True)
class Prompt:
    """Where an object is in one frame: by a box, points or a mask."""

    class_id: int
    box: Box | None = None
    points: tuple[Point, ...] = ()
    mask: np.ndarray | None = None
    """uint8 (height, width) of the displayed frame."""
    by_detector: bool = False

    def check(self, size: tuple[int, int]) -> None:
        """Raise UsageError where it cannot be of a picture of `size` (width, height)."""
        width, height = size
        if self.mask is not None and self.mask.shape != (height, width):
            of = f"{self.mask.shape[1]}x{self.mask.shape[0]}"
            raise UsageError(f"prompts: a mask of {of} in a picture of {width}x{height}")
        x1, y1, x2, y2 = self.around()
        if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
            raise UsageError(
                f"prompts: an object about {x1:g}, {y1:g} is outside of a picture of "
                f"{width}x{height}"
            )

    def around(self) -> Box:
        """A box about the place."""
        if self.box is not None:
            return self.box
        if self.mask is not None:
            rows, columns = self.mask.nonzero()
            top, left = float(rows.min()), float(columns.min())
            return left, top, float(columns.max()) + 1, float(rows.max()) + 1
        x, y, _ = next(point for point in self.points if point[2])
        return x - 1, y - 1, x + 1, y + 1

    def mask_of(self, side: int) -> torch.Tensor:
        """The mask as a square of `side` pixels: float32 (1, 1, side, side), 0 and 1.

        Source: transformers, `process_new_mask_for_video_frame`.
        """
        import torch
        from torch.nn import functional

        whole = torch.from_numpy(self.mask)[None, None].float()
        if whole.shape[-2:] == (side, side):
            return whole
        small = functional.interpolate(
            whole, size=(side, side), mode="bilinear", align_corners=False, antialias=True
        )
        return (small >= 0.5).float()


class PromptRow(FrozenModel):
    """One prompt of the file."""

    video: str
    frame: NonNegativeInt
    class_name: str = Field(alias="class")
    box: tuple[Pixel, Pixel, Pixel, Pixel] | None = None
    points: tuple[Point, ...] = ()
    mask: RleMask | None = None

    @model_validator(mode="after")
    def _one_place(self) -> PromptRow:
        given = [name for name in ("box", "points", "mask") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                f"give one of box, points and mask, not {' and '.join(given) or 'none'}"
            )
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise ValueError(f"box {list(self.box)} is empty; x1, y1, x2, y2 are expected")
        if self.points and not any(there for *_, there in self.points):
            raise ValueError("points: one of them at least has to be in the object")
        if self.mask is not None and not self.mask.pixels().any():
            raise ValueError("mask has no pixel")
        return self

    def is_for(self, uri: str) -> bool:
        """Whether the video at `uri` is meant."""
        names = (uri, uri.rsplit("/", 1)[-1])
        return any(self.video == name or fnmatch.fnmatchcase(name, self.video) for name in names)

    def prompt(self, class_ids: Mapping[str, int]) -> Prompt:
        """Raises UsageError for a class that the detector does not know."""
        if self.class_name not in class_ids:
            raise UsageError(
                f"prompts: class {self.class_name!r} is none of the detector's; "
                f"{', '.join(sorted(class_ids)):.200} are"
            )
        mask = None if self.mask is None else self.mask.pixels()
        return Prompt(class_ids[self.class_name], self.box, self.points, mask)


class PromptSet:
    """The prompts of a configuration.

    Args:
        rows: of its file.
        class_ids: of the detector's classes, by name.

    Raises UsageError for a class that the detector does not know.
    """

    def __init__(
        self, rows: Sequence[PromptRow] = (), class_ids: Mapping[str, int] | None = None
    ) -> None:
        self.class_ids = class_ids or {}
        self._rows = [(row, row.prompt(self.class_ids)) for row in rows]

    def of(self, uris: Sequence[str]) -> dict[int, tuple[Prompt, ...]]:
        """Those of a video, by frame_index, in the order of the file.

        Args:
            uris: all names of the video.
        """
        found: dict[int, tuple[Prompt, ...]] = {}
        for row, prompt in self._rows:
            if any(row.is_for(uri) for uri in uris):
                found[row.frame] = (*found.get(row.frame, ()), prompt)
        return found

    def for_nothing(self, uris: Iterable[str]) -> list[str]:
        """The names that rows give for videos and that none of `uris` has, in the file's order."""
        left = {row.video: row for row, _ in self._rows}
        for uri in uris:
            left = {name: row for name, row in left.items() if not row.is_for(uri)}
            if not left:
                break
        return list(left)


def run_lengths(counts: str) -> list[int]:
    """The runs of compressed counts, of 0 and 1 in turn.

    Source: cocoapi, `rleFrString` of common/maskApi.c: five bits a character, least first, the
    sixth says that more follow; from the third run on a difference to the one but last.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs


def load_prompts(path: str | Path) -> tuple[PromptRow, ...]:
    """Read a file of prompts. Raises UsageError naming the file, the row and the key."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise UsageError(f"{path}: cannot read the prompts: {error.strerror or error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: {' '.join(str(error).split()):.300}") from None
    if not isinstance(data, list) or not data:
        raise UsageError(f"{path}: a list of prompts is expected, each with video, frame and class")
    try:
        return TypeAdapter(tuple[PromptRow, ...]).validate_python(data)
    except ValidationError as error:
        raise UsageError(f"{path}: {_first_problem(error.errors()[0])}") from None


def _first_problem(problem: Any) -> str:
    number, *keys = problem["loc"]
    key = ".".join(str(part) for part in keys if not str(part).startswith("function-"))
    where = f"prompt {number + 1}" + (f", {key}" if key else "")
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    if problem["type"] == "missing":
        return f"{where} is missing"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}"
