"""Decoded frames made smaller, kept on a node's disk: what a shard is read from, and kept in.

    FOLDER/frameledger-UID/frames/KEY/START-STOP.npy

KEY is that of a video's content, the sampling, the size and what decodes: any change of these is
another key. START and STOP are sampled positions, those of a shard. Shards of another clip length
are read from as many files as it takes. See `frame_file` for what a file is, `frame_filling` for
which shards are kept, and `storage.shelf` for how many files there are.

A file that is damaged is removed and its shard decoded as if it had never been. So is a shard whose
first attempt failed, for whatever reason: no file can fail one twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from pipeline.clip_pixels import ClipPixels, Pixels
from pipeline.config import CacheConfig
from pipeline.records import Clip, ShardEnd, ShardTask
from pipeline.sources.files import check_unchanged
from pipeline.sources.frame_file import About, Damaged, FrameFile
from pipeline.sources.frame_filling import Filling, name_of
from pipeline.sources.scaling import scaling_identity
from pipeline.storage.shelf import Coming, Shelf

Items: TypeAlias = "Iterator[ClipPixels | ShardEnd]"
Range: TypeAlias = "tuple[int, int]"

_NAME = re.compile(r"(\d+)-(\d+)\.npy")


def covering(ranges: Iterable[Range], start: int, stop: int) -> list[tuple[Range, Range]] | None:
    """Fewest of `ranges` that together hold `[start, stop)`, each with the part to take of it.

    The parts follow one another without gap or overlap. None where something is in no range.
    """
    chosen, at = [], start
    left = sorted(ranges)
    while at < stop:
        best = max((r for r in left if r[0] <= at < r[1]), key=lambda r: r[1], default=None)
        if best is None:
            return None
        chosen.append((best, (at, min(best[1], stop))))
        at = best[1]
    return chosen


class FrameCache:
    """The kept frames of one node, for one run's sampling and decoder."""

    def __init__(self, config: CacheConfig, grid: dict[str, object], decoder: str) -> None:
        """
        Args:
            grid: what else an index and a decode depend on; the sampling among it.
            decoder: its backend.

        Raises UsageError where the folder cannot be used.
        """
        folder = os.path.expanduser(config.folder) if config.folder else _user_cache()
        self._shelf = Shelf(folder, "frames", config.budget_bytes, "cache.folder")
        self._budget_bytes = config.budget_bytes
        self._of = {
            **grid,
            "format": config.format,
            "scaled": scaling_identity(config.height),
            "decoder": decoder_versions(decoder),
        }
        self._gave_up = False
        self._notes: list[str] = []

    def items(
        self, task: ShardTask, attempt: int, decode: Callable[[], Items], *, read: bool
    ) -> Items:
        """The clips of a shard and its end, as `decode_shard` has them: as they were kept, or as
        `decode` gives them, which are kept.

        Args:
            read: what is kept will do, since nobody takes whole pictures.
        """
        of = {"video": task.index.video_id, "stream": task.index.stream_index, **self._of}
        key = hashlib.blake2b(json.dumps(of, sort_keys=True).encode(), digest_size=16).hexdigest()
        given = 0
        if read and attempt == 1 and (kept := _Kept.find(self._shelf, key, of, task)):
            try:
                for item in kept.items(attempt):
                    yield item
                    given += 1
                return
            except Damaged:
                kept.remove_damaged()
            finally:
                kept.close()
        stop = task.base + len(task.sampled)
        there = covering(_ranges(self._shelf, key), task.base, stop) is not None
        keep = not (there or self._gave_up or task.quarantined)
        filling = Filling(self, key, of, task) if keep else None
        try:
            for number, item in enumerate(decode()):
                if filling is not None:
                    filling.add(item)
                if isinstance(item, ShardEnd):
                    item = replace(item, notes=(*item.notes, *self._notes))
                    self._notes.clear()
                if number >= given:
                    yield item
        finally:
            if filling is not None:
                filling.close()

    def begin(self, key: str, name: str, size: int) -> Coming | None:
        """As `Shelf.begin`; what is in the way is said once."""
        coming = self._shelf.begin(key, name, size)
        # Of a shard that is too large by itself, the next may do.
        if coming is None and size <= self._budget_bytes:
            budget_gb = self._budget_bytes / 1e9
            self.give_up(
                f"cache.budget_gb = {budget_gb:g}: is used up by what this run keeps and reads, or "
                "its disk is full: what came later is not kept"
            )
        return coming

    def give_up(self, why: str) -> None:
        """Keep no more frames in this process."""
        self._gave_up = True
        self._notes.append(why)

    def failed(self, error: OSError) -> None:
        """The disk cannot be written to."""
        what = error.strerror or str(error)
        self.give_up(
            f"cache {self._shelf.folder}: {what}: what came later is not kept; set cache.budget_gb "
            "lower, or cache.folder"
        )


class _Kept:
    """A shard in the files that hold its frames."""

    def __init__(
        self, shelf: Shelf, key: str, task: ShardTask, files: list[tuple[FrameFile, str, Range]]
    ) -> None:
        self._shelf = shelf
        self._key = key
        self._task = task
        self._files = files
        self._reading = files[0][1]

    @classmethod
    def find(cls, shelf: Shelf, key: str, of: dict[str, object], task: ShardTask) -> _Kept | None:
        """None where not all of it is there; files that are not what they should be are removed."""
        start, stop = task.base, task.base + len(task.sampled)
        ranges = set(_ranges(shelf, key))
        while chosen := covering(ranges, start, stop):
            files: list[tuple[FrameFile, str, Range]] = []
            for whole, part in chosen:
                name = name_of(*whole)
                file = shelf.open(key, name)
                try:
                    found = FrameFile(file) if file is not None else None
                    if found is not None:
                        files.append((found, name, part))
                        _check(found.about, of, whole, part, task)
                except Damaged:
                    shelf.remove(key, name)
                    found = None
                if found is None:
                    ranges.discard(whole)
                    break
            else:
                return cls(shelf, key, task, files)
            for one, _, _ in files:
                one.close()
        return None

    def items(self, attempt: int) -> Items:
        """Raises Damaged where a frame is not what was written, VideoError where the source is not
        what it was."""
        task = self._task
        check_unchanged(task.source, "decode")
        spent = 0.0
        for clip in task.healthy_clips():
            started = time.perf_counter()
            item = self._clip(clip, attempt)
            spent += time.perf_counter() - started
            yield replace(item, decode_s=time.perf_counter() - started)
        for clip, _ in task.quarantined_clips():
            yield ClipPixels(task.key, attempt, clip, np.empty(0, np.int64), (), 0.0)
        check_unchanged(task.source, "decode")
        count = len(task.shard.clips)
        yield ShardEnd(task.key, attempt, count, decode_s=spent, cached_frames=task.frame_count)

    def _clip(self, clip: Clip, attempt: int) -> ClipPixels:
        parts = []
        for file, name, (start, stop) in self._files:
            start, stop = max(start, clip.start), min(stop, clip.stop)
            if start < stop:
                self._reading = name
                frames = file.read(start, stop)
                height, width = frames.shape[1:3]
                pixels = Pixels(frames, "rgb24", width, height, scaled_from=file.about.scaled_from)
                parts.append(pixels)
        positions = np.arange(clip.start, clip.stop, dtype=np.int64)
        return ClipPixels(self._task.key, attempt, clip, positions, (), 0.0, tuple(parts))

    def remove_damaged(self) -> None:
        self._shelf.remove(self._key, self._reading)

    def close(self) -> None:
        for file, _, _ in self._files:
            file.close()


def decoder_versions(backend: str) -> dict[str, object]:
    """What may give other pixels of the same file."""
    found: dict[str, object] = {"backend": backend, "machine": platform.machine()}
    if backend == "opencv":
        import cv2

        return {**found, "opencv": cv2.__version__}
    import av

    versions = {name: list(av.library_versions[name]) for name in ("libavcodec", "libswscale")}
    return {**found, "av": av.__version__, **versions}


def _check(about: About, of: dict[str, object], whole: Range, part: Range, task: ShardTask) -> None:
    """Raise Damaged where a file is not of these frames of this video."""
    start, stop = whole
    frames = task.frames_of(*part)
    here = slice(part[0] - start, part[1] - start)
    same = (
        about.of == of
        and about.base == start
        and len(about.frames) == stop - start
        and about.frames[here] == frames.tolist()
        and about.pts[here] == task.index.pts[frames].tolist()
    )
    if not same:
        raise Damaged("it is of other frames")


def _ranges(shelf: Shelf, key: str) -> list[Range]:
    found = (_NAME.fullmatch(name) for name in shelf.names(key))
    return [(int(match[1]), int(match[2])) for match in found if match]


def _user_cache() -> str:
    """Source: XDG Base Directory Specification."""
    return os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
