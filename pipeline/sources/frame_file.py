"""Some sampled frames of a video in one file: an npy array, and behind it what is known of it.

    npy header          as numpy writes it: np.load(FILE, mmap_mode="r") gives the frames
    frames              uint8 (N, height, width, 3) RGB
    about               JSON: what they are of, frame indices, pts, a CRC-32 of each frame
    trailer             length and CRC-32 of `about`, and a mark: the last to be written

The trailer tells a file that is whole. Frames are held against their CRC as they are read, so that
what a disk, or a restart in the middle of writing, has made of them gives no wrong row; therefore
nothing waits for the disk (fsync) on writing.
"""

from __future__ import annotations

import json
import mmap
import struct
import zlib
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import numpy as np

_MARK = b"FLFRAMES"
_TRAILER = struct.Struct("<QI8s")
_ABOUT_BYTES = 64
"""At most, of one frame in `about`: three numbers of up to 20 digits."""


class Damaged(Exception):
    """A file is not what was written, or not of what was asked for."""


@dataclass(frozen=True)
class About:
    """What a file's frames are."""

    of: dict[str, object]
    """The video, the sampling and all else that decides pixels."""
    base: int
    """Sampled position of the first frame."""
    scaled_from: tuple[int, int]
    """Width and height of the video's displayed picture."""
    frames: list[int]
    """Global frame indices, of consecutive sampled positions."""
    pts: list[int]


def file_bytes(shape: tuple[int, ...], about: About) -> int:
    """About how large a file of `shape` becomes: never much less than it is."""
    pixels = int(np.prod(shape, dtype=np.int64))
    return pixels + _ABOUT_BYTES * shape[0] + len(json.dumps(about.of)) + 4096


class FrameFileWriter:
    """Writes frames in order. Every method raises OSError where the disk does."""

    def __init__(self, file: BinaryIO, shape: tuple[int, ...], about: About) -> None:
        """`shape`: (N, height, width, 3) of all frames together."""
        self._file = file
        self._about = about
        self._crcs: list[int] = []
        described = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, described)

    def write(self, frames: np.ndarray) -> None:
        """uint8 (n, height, width, 3), contiguous: the next of them."""
        for frame in frames:
            self._crcs.append(zlib.crc32(frame))
        self._file.write(frames.data)

    def finish(self) -> None:
        about = json.dumps({**asdict(self._about), "crcs": self._crcs}).encode()
        self._file.write(about + _TRAILER.pack(len(about), zlib.crc32(about), _MARK))


class FrameFile:
    """A whole file, memory-mapped."""

    def __init__(self, file: BinaryIO) -> None:
        """Takes `file` over. Raises Damaged where it is not whole."""
        self._file = file
        try:
            self.about, self._crcs, self._array = _parsed(file)
        except (OSError, ValueError, KeyError, TypeError) as error:
            file.close()
            raise Damaged(f"{file.name}: {error}") from None
        self._checked = np.zeros(len(self._array), dtype=bool)

    @property
    def start(self) -> int:
        """The first sampled position."""
        return self.about.base

    def read(self, start: int, stop: int) -> np.ndarray:
        """uint8 (stop - start, height, width, 3), read-only: frames at sampled positions, not
        copied. Raises Damaged where one is not what was written."""
        at = slice(start - self.start, stop - self.start)
        frames = self._array[at]
        for number in range(at.start, at.stop):
            if not self._checked[number]:
                if zlib.crc32(self._array[number]) != self._crcs[number]:
                    frame = self.about.frames[number]
                    raise Damaged(f"{self._file.name}: frame {frame} is not what was written")
                self._checked[number] = True
        return frames

    def close(self) -> None:
        """What was read stays: the mapping ends with its last array."""
        self._file.close()


def _parsed(file: BinaryIO) -> tuple[About, list[int], np.ndarray]:
    size = file.seek(0, 2)
    mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    if size < _TRAILER.size:
        raise ValueError("is cut short")
    length, crc, mark = _TRAILER.unpack_from(mapped, size - _TRAILER.size)
    behind = size - _TRAILER.size - length
    if mark != _MARK or behind < 0:
        raise ValueError("is cut short, or none of ours")
    text = mapped[behind : behind + length]
    if zlib.crc32(text) != crc:
        raise ValueError("its description is damaged")
    given: dict[str, Any] = json.loads(text)
    crcs = given.pop("crcs")
    about = About(**{**given, "scaled_from": tuple(given["scaled_from"])})
    file.seek(0)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("is no npy array of version 1.0")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    pixels = int(np.prod(shape, dtype=np.int64))
    count = len(about.frames)
    if dtype != np.uint8 or len(shape) != 4 or not shape[0] == len(about.pts) == len(crcs) == count:
        raise ValueError("its parts do not fit together")
    if file.tell() + pixels != behind:
        raise ValueError("its array has another length")
    array = np.frombuffer(mapped, np.uint8, pixels, file.tell()).reshape(shape)
    return about, crcs, array
