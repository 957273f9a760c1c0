"""A shard into its clips: decoded once, in order, each clip one contiguous uint8 buffer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from pipeline.clip_pixels import ClipPixels, PixelFormat, Pixels
from pipeline.config import DecodeConfig
from pipeline.records import Clip, ShardEnd, ShardTask, VideoIndex
from pipeline.sources.files import VideoFile, opened
from pipeline.sources.frames import DecodeNotes, frames_opencv, frames_pyav, import_cv2
from pipeline.sources.limits import memory_errors
from pipeline.sources.pictures import Layout, Picture, Scaler, SmallPicture


@dataclass
class BufferPool:
    """Clip buffers used again, where the clip has been dealt with before the next is decoded.

    A fresh buffer costs a page fault every 4 KB: a tenth of the time it takes to decode 720p.
    """

    free: list[np.ndarray] = field(default_factory=list)

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """An uninitialised uint8 array of `shape`."""
        size = int(np.prod(shape))
        fitting = [at for at, kept in enumerate(self.free) if len(kept) >= size]
        if not fitting:
            return np.empty(size, dtype=np.uint8).reshape(shape)
        return self.free.pop(min(fitting, key=lambda at: len(self.free[at])))[:size].reshape(shape)

    def give_back(self, clip: ClipPixels) -> None:
        """Only for a clip of which nothing refers to the pixels any more."""
        # One of each is enough: a clip is given back before the next is taken. What is read-only
        # is somebody else's.
        last = [parts[-1].data for parts in (clip.parts, clip.scaled) if parts]
        # numpy keeps the array that owns the memory as the base of all views of it.
        self.free = [
            data.base if data.base is not None else data for data in last if data.flags.writeable
        ]


def load_decoder(config: DecodeConfig) -> None:
    """Load the libraries that decode. Raises VideoError where OpenCV cannot be."""
    import av  # noqa: F401

    if config.backend == "opencv":
        import_cv2()


def decode_shard(
    task: ShardTask,
    attempt: int,
    config: DecodeConfig,
    wanted: PixelFormat | None,
    pool: BufferPool | None = None,
    scaled_side: int | None = None,
) -> Iterator[ClipPixels | ShardEnd]:
    """Yield every clip of the shard, in order, then a ShardEnd that says what was missing.

    Quarantined clips come last, without a frame.

    Args:
        wanted: the pixel format the analyzers prefer; see `pictures.AvPicture` for when a frame
            comes as rgb24 all the same. None: no whole pictures.
        pool: takes buffers from here; the caller gives them back.
        scaled_side: pixels of the shorter side of the small pictures; None: there are none.

    Raises VideoError("decode", reason) where the shard as a whole cannot be decoded, a limit of
    `config` is met, or the file changes meanwhile.
    """
    notes = DecodeNotes()
    started = time.perf_counter()
    spent_s = 0.0
    seen = np.zeros(len(task.sampled), dtype=bool)
    # Clips that have gone out are dropped by the collector where no end follows them.
    with opened(task.source, "decode", config) as file, memory_errors("decode", config):
        frames = chain.from_iterable(
            _frames(file, task.index, first, stop, config, wanted or "rgb24", notes)
            for first, stop in _wanted_runs(task)
        )
        views = _Views(wanted is not None, Scaler(scaled_side) if scaled_side is not None else None)
        for clip_pixels in _fill(task, attempt, frames, seen, pool or BufferPool(), views):
            now = time.perf_counter()
            clip_s, spent_s = now - started, spent_s + now - started
            yield _timed(clip_pixels, clip_s)
            started = time.perf_counter()
    for clip, _ in task.quarantined_clips():
        seen[clip.own_start - task.base : clip.own_stop - task.base] = True
    missing = _ranges(task.sampled[~seen])
    yield ShardEnd(
        task_key=task.key,
        attempt=attempt,
        clip_count=len(task.shard.clips),
        missing=missing,
        missing_reason=notes.reason() if missing or notes.unknown_pts else "",
        decode_s=spent_s + time.perf_counter() - started,
    )


def _frames(
    file: VideoFile,
    index: VideoIndex,
    first: int,
    stop: int,
    config: DecodeConfig,
    wanted: PixelFormat,
    notes: DecodeNotes,
) -> Iterator[tuple[int, Picture]]:
    if config.backend == "opencv":
        return frames_opencv(file, index, first, stop, config=config, notes=notes)
    return frames_pyav(file, index, first, stop, wanted=wanted, config=config, notes=notes)


def _wanted_runs(task: ShardTask) -> list[tuple[int, int]]:
    """Half-open ranges of frames to decode: all of the shard, but for those that only quarantined
    clips want. Each begins anew at a keyframe, so that what ends a decoder may be leapt over."""
    runs: list[list[int]] = []
    for clip in task.healthy_clips():
        if runs and clip.start <= runs[-1][1]:
            runs[-1][1] = max(runs[-1][1], clip.stop)
        else:
            runs.append([clip.start, clip.stop])
    last = [int(task.frames_of(stop - 1, stop)[0]) for _, stop in runs]
    first = [int(task.frames_of(start, start + 1)[0]) for start, _ in runs]
    return [(a, b + 1) for a, b in zip(first, last, strict=True)]


def _fill(
    task: ShardTask,
    attempt: int,
    frames: Iterator[tuple[int, Picture]],
    seen: np.ndarray,
    pool: BufferPool,
    views: _Views,
) -> Iterator[ClipPixels]:
    """Deal frames out to the windows they lie in; a window is whole once a later frame comes."""
    waiting = task.healthy_clips()
    opened: list[_Window] = []
    offset = 0  # Into task.sampled: the next sampled frame.
    for frame_index, picture in frames:
        while offset < len(task.sampled) and task.sampled[offset] < frame_index:
            offset += 1  # Sampled, but the decoder passed it over.
        if offset == len(task.sampled):
            break
        if task.sampled[offset] != frame_index:
            continue
        seen[offset] = True
        position = task.base + offset
        while opened and opened[0].clip.stop <= position:
            yield opened.pop(0).close(task.key, attempt)
        while waiting and waiting[0].start <= position:
            opened.append(_Window(waiting.pop(0), pool))
            # A window that ended before this frame came has none of its own.
            if opened[0].clip.stop <= position:
                yield opened.pop(0).close(task.key, attempt)
        pictures = views.of(picture) if opened else (None, None)
        for window in opened:
            window.add(position, pictures)
        offset += 1
        # The last frame of a window closes it at once: it must not wait for the next decode.
        while opened and opened[0].clip.stop == position + 1:
            yield opened.pop(0).close(task.key, attempt)
    for window in opened:
        yield window.close(task.key, attempt)
    for clip in (*waiting, *(clip for clip, _ in task.quarantined_clips())):
        yield _Window(clip, pool).close(task.key, attempt)


@dataclass(frozen=True)
class _Views:
    """What is made of each frame: the whole picture, a small one, or both."""

    whole: bool
    scaler: Scaler | None

    def of(self, picture: Picture) -> tuple[Picture | None, SmallPicture | None]:
        small = picture.scaled(self.scaler) if self.scaler is not None else None
        return picture if self.whole else None, small


class _Window:
    """A clip's buffers while they are being filled."""

    def __init__(self, clip: Clip, pool: BufferPool) -> None:
        self.clip = clip
        self._positions: list[int] = []
        self._views = _Parts(pool), _Parts(pool)

    def add(self, position: int, pictures: tuple[Picture | None, SmallPicture | None]) -> None:
        room = self.clip.stop - self.clip.start - len(self._positions)
        for view, picture in zip(self._views, pictures, strict=True):
            if picture is not None:
                view.add(picture, room)
        self._positions.append(position)

    def close(self, task_key: str, attempt: int) -> ClipPixels:
        positions = np.asarray(self._positions, dtype=np.int64)
        whole, small = (view.close() for view in self._views)
        return ClipPixels(task_key, attempt, self.clip, positions, whole, 0.0, small)


class _Parts:
    """Pictures one after another: one buffer for those of one layout."""

    def __init__(self, pool: BufferPool) -> None:
        self._pool = pool
        self._parts: list[tuple[Layout, np.ndarray]] = []
        self._filled = 0  # Frames in the last part.

    def add(self, picture: Picture | SmallPicture, room: int) -> None:
        """`room`: how many more there can be, this one among them."""
        if not self._parts or self._parts[-1][0] != picture.layout:
            self._trim()
            self._parts.append((picture.layout, self._pool.take(picture.layout.shape(room))))
            self._filled = 0
        picture.write(self._parts[-1][1][self._filled])
        self._filled += 1

    def _trim(self) -> None:
        if self._parts and self._filled < len(self._parts[-1][1]):
            layout, buffer = self._parts[-1]
            self._parts[-1] = (layout, buffer[: self._filled])

    def close(self) -> tuple[Pixels, ...]:
        self._trim()
        return tuple(
            Pixels(buffer, at.format, at.width, at.height, at.full_range, at.bt709, at.scaled_from)
            for at, buffer in self._parts
        )


def _timed(clip: ClipPixels, decode_s: float) -> ClipPixels:
    from dataclasses import replace

    return replace(clip, decode_s=decode_s)


def _ranges(frames: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Ascending frame indices as half-open ranges of runs of neighbours in the sampled list.

    With a stride the frames between two missing ones were never asked for, so each missing
    frame is a range of its own unless the next index follows.
    """
    if not len(frames):
        return ()
    breaks = np.flatnonzero(np.diff(frames) > 1) + 1
    groups = np.split(frames, breaks)
    return tuple((int(group[0]), int(group[-1]) + 1) for group in groups)
