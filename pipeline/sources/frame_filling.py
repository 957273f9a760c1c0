"""A shard on its way into the frame cache, while it is decoded for a run.

Kept is a shard of which every frame was decoded, all of one size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.clip_pixels import ClipPixels, Pixels
from pipeline.records import ShardEnd, ShardTask
from pipeline.sources.frame_file import About, FrameFileWriter, file_bytes

if TYPE_CHECKING:
    from pipeline.sources.frame_cache import FrameCache
    from pipeline.storage.shelf import Coming


class Filling:
    """A shard that is kept while it is decoded."""

    def __init__(self, cache: FrameCache, key: str, of: dict[str, object], task: ShardTask) -> None:
        self._cache = cache
        self._key = key
        self._of = of
        self._task = task
        self._next = task.base
        self._coming: Coming | None = None
        self._writer: FrameFileWriter | None = None
        self._size: tuple[object, ...] = ()
        self._ended = False

    def add(self, item: ClipPixels | ShardEnd) -> None:
        """The next of the shard. Never raises for what the disk does."""
        if self._ended:
            return
        try:
            if isinstance(item, ClipPixels):
                self._clip(item)
            else:
                self._end(item)
        except OSError as error:
            self._cache.failed(error)
            self.close()

    def _clip(self, item: ClipPixels) -> None:
        """Those frames of a window that no window before it had."""
        stop = self._next
        if len(item.positions):
            stop = int(item.positions[-1]) + 1
        new = int(np.searchsorted(item.positions, self._next))
        expected = np.arange(self._next, stop)
        if len(item.scaled) != 1 or not np.array_equal(item.positions[new:], expected):
            self.close()
            return
        (pixels,) = item.scaled
        if self._writer is None and not self._begin(pixels):
            return
        assert self._writer is not None
        if _size(pixels) != self._size:
            self.close()
            return
        self._writer.write(pixels.data[new:])
        self._next = max(self._next, stop)

    def _begin(self, pixels: Pixels) -> bool:
        task = self._task
        pts = task.index.pts[task.sampled]
        about = About(self._of, task.base, pixels.displayed, task.sampled.tolist(), pts.tolist())
        shape = (len(task.sampled), pixels.height, pixels.width, 3)
        name = name_of(task.base, task.base + len(task.sampled))
        self._coming = self._cache.begin(self._key, name, file_bytes(shape, about))
        if self._coming is None:
            self.close()
            return False
        self._size = _size(pixels)
        self._writer = FrameFileWriter(self._coming.file, shape, about)
        return True

    def _end(self, end: ShardEnd) -> None:
        all_there = self._next == self._task.base + len(self._task.sampled)
        if self._writer is not None and all_there and not (end.missing or end.missing_reason):
            self._writer.finish()
            coming, self._coming = self._coming, None
            assert coming is not None
            coming.publish()
        self.close()

    def close(self) -> None:
        """What is not whole goes."""
        self._ended = True
        if self._coming is not None:
            self._coming.drop()
            self._coming = None


def name_of(start: int, stop: int) -> str:
    """The file of the sampled positions `[start, stop)`."""
    return f"{start}-{stop}.npy"


def _size(pixels: Pixels) -> tuple[object, ...]:
    return pixels.width, pixels.height, pixels.displayed
