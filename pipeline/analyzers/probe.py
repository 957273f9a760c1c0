"""The `probe` embedder: a 16x9 grid of mean colours. No model: it measures the pipeline itself.

What is sampled is every eighth pixel each way from the top left corner, (ceil(height / 8),
ceil(width / 8)) of them; of yuv420p the chroma sample that lies over each. They are converted to
RGB one by one, as FFmpeg would, and averaged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pipeline.analyzers.base import ModelFacts, TableName
from pipeline.analyzers.colors import yuv_coefficients
from pipeline.analyzers.columns import embeddings_table
from pipeline.analyzers.steps import StepTimes
from pipeline.clip_pixels import PixelFormat, Pixels

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.analyzers.frames import FrameBatch

GRID_ROWS = 9
GRID_COLUMNS = 16
STEP = 8


class ProbeEmbedder:
    """An `Analyzer` without a model: 432 floats in 0..1 a frame, not normalised.

    Row-major: 9 rows by 16 columns by R, G, B. Needs neither torch nor a GPU.
    """

    name = "embedder"
    table: TableName = "embeddings"
    pixel_format: PixelFormat = "yuv420p"

    SEMANTICS: ClassVar[int] = 1

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps = StepTimes()

    def identity(self) -> dict[str, object]:
        return {"backend": "probe", "semantics": self.SEMANTICS}

    def smallest_side(self) -> int | None:
        return GRID_ROWS * STEP

    def weights_bytes(self) -> int:
        return 0

    def setup(self, device: str) -> None:
        """Nothing to load; the grid is computed on the CPU whatever the device."""

    def facts(self) -> ModelFacts:
        return ModelFacts("mean colours of a 16x9 grid, no model")

    def analyze(self, frames: FrameBatch) -> pa.Table:
        return embeddings_table(mean_colours(frames.pixels))


def mean_colours(pixels: Pixels) -> np.ndarray:
    """float32 (N, 432) in 0..1: mean R, G and B of each cell of the grid, row by row.

    Along each side, cell `i` of `n` takes the samples [s * i // n, s * (i + 1) // n) of `s`, and
    sample s * i // n alone where that is empty, as in frames with fewer samples than cells.
    """
    rows, columns = -(-pixels.height // STEP), -(-pixels.width // STEP)
    grid = _Grid(rows, columns)
    out = np.empty((len(pixels), GRID_ROWS, GRID_COLUMNS, 3), dtype=np.float32)
    # Frame by frame, so that the samples stay in the processor's cache from step to step.
    if pixels.format == "rgb24":
        rgb = np.empty((3, rows, columns), dtype=np.int32)
        for frame, cells in zip(pixels.data, out, strict=True):
            np.copyto(rgb, frame[::STEP, ::STEP].transpose(2, 0, 1))
            grid.means(rgb, cells)
    else:
        convert = _YuvSamples(pixels, rows, columns)
        for frame, cells in zip(pixels.data, out, strict=True):
            grid.means(convert(frame), cells)
    return out.reshape(len(pixels), -1)


class _YuvSamples:
    """Sampled pixels of one yuv420p frame after another, in buffers that are used again."""

    def __init__(self, pixels: Pixels, rows: int, columns: int) -> None:
        self._height, self._width = pixels.height, pixels.width
        self._factors = yuv_coefficients(bt709=pixels.bt709, full_range=pixels.full_range)
        self._luma = np.empty((rows, columns), dtype=np.int32)
        self._chroma = np.empty((2, rows, columns), dtype=np.int32)
        self._green = np.empty((rows, columns), dtype=np.int32)
        self._rgb = np.empty((3, rows, columns), dtype=np.int32)

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """int32 (3, rows, columns) in 0..255 of a (height * 3 // 2, width) frame."""
        luma, chroma, green, rgb, by = (
            self._luma,
            self._chroma,
            self._green,
            self._rgb,
            self._factors,
        )
        height, width = self._height, self._width
        planes = frame.reshape(-1)[height * width :].reshape(2, height // 2, width // 2)
        np.copyto(luma, frame[:height:STEP, ::STEP])
        np.copyto(chroma, planes[:, :: STEP // 2, :: STEP // 2])
        luma *= 8 * by.y
        luma -= by.y_offset * by.y
        luma >>= 16
        chroma -= 128
        u, v = chroma
        np.multiply(v, 8 * by.v_red, out=rgb[0])
        np.multiply(u, 8 * by.u_green, out=rgb[1])
        np.multiply(u, 8 * by.u_blue, out=rgb[2])
        np.multiply(v, 8 * by.v_green, out=green)
        rgb >>= 16
        green >>= 16
        rgb[1] += green
        rgb += luma
        # Bounds of the array's own type: np.clip is several times slower on Python's integers.
        np.clip(rgb, np.int32(0), np.int32(255), out=rgb)
        return rgb


class _Grid:
    """Sums over the cells of the grid."""

    def __init__(self, rows: int, columns: int) -> None:
        top, left = _starts(rows, GRID_ROWS), _starts(columns, GRID_COLUMNS)
        heights = np.maximum(np.diff(top, append=rows), 1)
        widths = np.maximum(np.diff(left, append=columns), 1)
        self._bands = [slice(a, a + n) for a, n in zip(top.tolist(), heights.tolist(), strict=True)]
        self._left = left
        self._levels = (heights[:, None, None] * widths[:, None]).astype(np.float32) * 255
        self._sums = np.empty((3, GRID_ROWS, columns), dtype=np.int32)

    def means(self, rgb: np.ndarray, out: np.ndarray) -> None:
        """Fill `out`, float32 (9, 16, 3), from int32 (3, rows, columns) in 0..255."""
        rows, columns = rgb.shape[1:]
        if rows % GRID_ROWS == 0:
            # One call instead of nine: as for 360, 720, 1080 and 2160 lines.
            bands = rgb.reshape(3, GRID_ROWS, rows // GRID_ROWS, columns)
            np.add.reduce(bands, axis=2, out=self._sums)
        else:
            for row, band in enumerate(self._bands):
                np.add.reduce(rgb[:, band], axis=1, out=self._sums[:, row])
        # Where two starts are equal, reduceat gives the one element there: see `mean_colours`.
        cells = np.add.reduceat(self._sums, self._left, axis=2)
        np.divide(cells.transpose(1, 2, 0), self._levels, out=out, casting="same_kind")


def _starts(samples: int, cells: int) -> np.ndarray:
    return np.arange(cells) * samples // cells
