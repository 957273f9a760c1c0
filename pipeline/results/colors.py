"""A colour for each class: always the same one, and far from those of the classes before it."""

from __future__ import annotations

from functools import cache

import numpy as np

Color = tuple[int, int, int]
"""Red, green, blue, each 0 to 255."""

_COLORS = 256
_LEVELS = (0, 51, 102, 153, 204, 255)
_LIGHTNESS = (0.52, 0.90)
"""Of Oklab: seen on a dark picture and on a light one."""
_LEAST_CHROMA = 0.09
"""Greys are what pictures are made of."""
_FIRST = (255, 51, 51)


def class_color(class_id: int) -> Color:
    """The colour of a class by the model's number of it; after 256 they begin again."""
    return _palette()[class_id % _COLORS]


def hex_of(class_id: int) -> str:
    """The same for a page: #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*class_color(class_id))


def text_color(background: Color) -> Color:
    """Black or white, whichever is read better on `background`."""
    red, green, blue = background
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


@cache
def _palette() -> list[Color]:
    """256 colours, each as far as can be from all before it, in Oklab.

    Source: Glasbey et al., "Colour displays for categorical images" (2007), of which this is the
    greedy form; Oklab: Ottosson, "A perceptual color space for image processing" (2020). Where a
    grid of colours is used up, finer ones follow.
    """
    levels = np.array(_LEVELS + tuple(range(17, 255, 34)))
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = oklab(grid)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    usable = (lab[:, 0] > _LIGHTNESS[0]) & (lab[:, 0] < _LIGHTNESS[1]) & (chroma > _LEAST_CHROMA)
    grid, lab = grid[usable], lab[usable]
    chosen = [int(np.flatnonzero((grid == _FIRST).all(axis=1))[0])]
    distance = np.full(len(grid), np.inf)
    while len(chosen) < _COLORS:
        distance = np.minimum(distance, np.square(lab - lab[chosen[-1]]).sum(axis=1))
        chosen.append(int(distance.argmax()))
    return [(int(r), int(g), int(b)) for r, g, b in grid[chosen]]


def oklab(rgb: np.ndarray) -> np.ndarray:
    """sRGB 0 to 255 (n, 3) as Oklab float64 (n, 3): lightness, green to red, blue to yellow."""
    part = np.asarray(rgb, np.float64) / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.cbrt(linear @ _TO_CONES.T) @ _TO_LAB.T)


_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
