"""A clip in batches for a model: as large as pays, as small as the device's memory asks for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from pipeline.errors import VideoError

T = TypeVar("T")

_START = ((1280 * 720, 8), (1920 * 1080, 4))
_START_ABOVE = 2
_START_BYTES = 8 * 2**30
"""Frames of a first batch by their pixels: what a Mask R-CNN runs in 8 GB."""
_START_FACTORS = (1 / 8, 4)
"""How much less or more there may be on a device with less or more free memory."""
_MOST = 128
_WORTH = 1.05
"""A batch twice as large has to be faster by this factor to be kept."""
_TRIALS = 2
"""Batches of a size before its speed is believed; the first one pays for warming up."""


@dataclass
class _Learned:
    """What is known of one frame shape."""

    size: int
    settled: bool
    """No more growing: the configuration says so, or the next size was slower or too large."""
    trials: int = 0
    best_rate: float = 0.0
    """Frames per second of the best size so far, which is half of `size` while it grows."""
    rate: float = 0.0
    """Of `size`, the better of its trials."""


class Batcher:
    """Runs clips through a model in batches and learns their size per frame shape.

    With `auto` a size starts from the resolution and doubles while frames per second grow. A
    batch that the device has no memory for is halved, now and from then on.

    Attributes:
        notes: what happened that a user should hear of; whoever reads them clears them.
    """

    def __init__(
        self,
        configured: int | Literal["auto"],
        name: str,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`clock`: seconds, by which batches are found fast or slow."""
        self._clock = clock
        self._configured: int | Literal["auto"] = configured
        self._name = name
        self._learned: dict[tuple[int, int], _Learned] = {}
        self.notes: list[str] = []

    def run(self, count: int, height: int, width: int, work: Callable[[slice], T]) -> list[T]:
        """`work` on slices that cover `[0, count)` in order, and what it returned for each.

        Args:
            count: frames of the clip.
            height, width: of each frame, in pixels; what is learned is kept for this shape.
            work: the model on some of them; it must have ended on the device when it returns.

        Raises VideoError("analyze", ...) where not even a single frame fits into memory.
        """
        learned = self._of(height, width)
        done: list[T] = []
        at = 0
        while at < count:
            batch = slice(at, min(at + learned.size, count))
            started = self._clock()
            try:
                result = work(batch)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._shrink(learned, batch.stop - batch.start, height, width, error)
            else:
                done.append(result)
                at = batch.stop
                if batch.stop - batch.start == learned.size:
                    self._grow(learned, self._clock() - started)
                continue
            # Outside the handler: the exception's traceback keeps the tensors of the batch alive.
            _empty_cache()
        return done

    def fix(self, size: int) -> None:
        """Batches of this size from now on; what was learned is forgotten."""
        self._configured = size
        self._learned.clear()

    def size(self, height: int, width: int) -> int:
        """Frames of the next batch of this shape."""
        return self._of(height, width).size

    def _of(self, height: int, width: int) -> _Learned:
        shape = (height, width)
        if shape not in self._learned:
            auto = self._configured == "auto"
            size = (
                int(self._configured) if auto is False else start_size(height * width, free_bytes())
            )
            self._learned[shape] = _Learned(size, settled=not auto)
        return self._learned[shape]

    @staticmethod
    def _grow(learned: _Learned, seconds: float) -> None:
        if learned.settled:
            return
        learned.trials += 1
        learned.rate = max(learned.rate, learned.size / max(seconds, 1e-9))
        if learned.trials < _TRIALS:
            return
        if learned.best_rate and learned.rate < learned.best_rate * _WORTH:
            learned.size //= 2
            learned.settled = True
        elif learned.size * 2 > _MOST:
            learned.settled = True
        else:
            learned.best_rate, learned.rate, learned.trials = learned.rate, 0.0, 0
            learned.size *= 2

    def _shrink(
        self, learned: _Learned, tried: int, height: int, width: int, error: Exception
    ) -> None:
        where = f"{self._name}: out of memory with {tried} frames of {width}x{height} at once"
        if tried == 1:
            line = " ".join(str(error).split())[:200]
            raise VideoError("analyze", f"{where}: {line}") from error
        learned.size, learned.settled = tried // 2, True
        self.notes.append(f"{where}, went on with {learned.size}")


def start_size(pixels: int, free: int | None = None) -> int:
    """Frames of a first batch for frames of so many pixels, and so much free memory of a GPU."""
    size = next((size for most, size in _START if pixels <= most), _START_ABOVE)
    if free is None:
        return size
    least, most = _START_FACTORS
    factor = min(max(free / _START_BYTES, least), most)
    return max(1, int(size * 2.0 ** math.floor(math.log2(factor))))


def free_bytes() -> int | None:
    """Of the GPU in use, None where there is none."""
    import torch

    return int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_initialized() else None


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device (or the system, for a CPU tensor) had no memory left."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _empty_cache() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
