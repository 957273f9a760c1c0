"""Every frame carries its own index, in a strip of cells that survives lossy compression.

The strip lies at the bottom of the displayed picture: two rows of sixteen cells, black or white.
Read left to right and top to bottom, most significant bit first, they hold 24 bits of frame
index and a CRC-8 of these::

    +-------------------------------+
    |            picture            |
    +---+---+---+-- ... --+---+-----+
    |i23|i22|i21|         |i9 | i8  |   index, upper 16 bits
    +---+---+---+-- ... --+---+-----+
    |i7 |i6 |i5 |   c3    |c1 | c0  |   index, lower 8 bits, then the CRC
    +---+---+---+-- ... --+---+-----+

The geometry depends on the shape of the frame only, so a reader needs nothing but pixels, and a
picture that was scaled as a whole (to no less than 80 rows) still reads.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

INDEX_BITS = 24
MAX_INDEX = (1 << INDEX_BITS) - 1
_COLUMNS = 16
_ROWS = 2
_BLACK, _WHITE = 16, 235  # the ends of the limited video range: nothing is clipped on the way

# Below this difference between the darkest and the brightest cell there is no strip to read.
_MIN_CONTRAST = 80.0
# A cell whose brightness lies in the middle of that difference is neither black nor white.
_UNDECIDED = (0.4, 0.6)

Image = npt.NDArray[np.uint8]


def strip_height(height: int) -> int:
    """Rows of a picture of `height` rows that the strip takes: a tenth, at least eight."""
    return max(8, round(height / 10))


def crc8(value: int) -> int:
    """CRC-8 (polynomial 0x07, start 0xFF, most significant bit first) of a 24-bit value.

    The start value makes the all-black strip invalid, so a blank frame never reads as frame 0.
    """
    crc = 0xFF
    for byte in value.to_bytes(INDEX_BITS // 8, "big"):
        crc ^= byte
        for _ in range(8):
            crc = ((crc << 1) ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc


def draw_index(frame: Image, index: int) -> None:
    """Draw `index` into the strip of `frame`, in place.

    `frame` is uint8 (height, width, 3) with at least 32 columns and 24 rows.
    """
    if not 0 <= index <= MAX_INDEX:
        raise ValueError(f"a frame index has {INDEX_BITS} bits at most: {index = }")
    if frame.ndim != 3 or frame.shape[0] < 24 or frame.shape[1] < 2 * _COLUMNS:
        raise ValueError(f"the strip needs a picture of 32x24 or larger: {frame.shape = }")
    code = (index << 8) | crc8(index)
    bits = [(code >> shift) & 1 for shift in range(31, -1, -1)]
    cells = np.where(np.array(bits).reshape(_ROWS, _COLUMNS), _WHITE, _BLACK).astype(np.uint8)
    height, width = frame.shape[:2]
    rows = strip_height(height)
    tall = cells.repeat(np.diff(_edges(rows, _ROWS)), axis=0)
    frame[height - rows :] = tall.repeat(np.diff(_edges(width, _COLUMNS)), axis=1)[..., None]


def read_index(frame_rgb: Image) -> int | None:
    """The index in the strip of a displayed frame, or None where no valid one can be read.

    `frame_rgb` is uint8 (height, width, 3), rotated as it is to be displayed. Only the middle of
    each cell is looked at, because compression blurs its edges.
    """
    height, width = frame_rgb.shape[:2]
    if height < 24 or width < 2 * _COLUMNS:
        return None
    rows = strip_height(height)
    strip = frame_rgb[height - rows :].mean(axis=2, dtype=np.float32)
    across = [_middle(*edges) for edges in pairwise(_edges(width, _COLUMNS))]
    down = [_middle(*edges) for edges in pairwise(_edges(rows, _ROWS))]
    levels = np.array([[strip[y, x].mean() for x in across] for y in down])
    low, high = float(levels.min()), float(levels.max())
    if high - low < _MIN_CONTRAST:
        return None
    share = (levels - low) / (high - low)
    if ((share > _UNDECIDED[0]) & (share < _UNDECIDED[1])).any():
        return None
    code = 0
    for bit in (share > 0.5).ravel():
        code = (code << 1) | int(bit)
    index, crc = code >> 8, code & 0xFF
    return index if crc8(index) == crc else None


def _edges(size: int, cells: int) -> list[int]:
    """The pixels at which cells begin, and the end of the last."""
    return [size * number // cells for number in range(cells + 1)]


def _middle(start: int, stop: int) -> slice:
    """The middle half of [start, stop), which has two pixels or more."""
    quarter = (stop - start) // 4
    return slice(start + quarter, stop - quarter)
