"""Blocks of objects on a node's disk, shared by its processes: each is fetched once.

    FOLDER/frameledger-UID/BOOT/     0700; another after a restart of the machine, since of what was
                                     written last before it nobody knows that it is there
        lock                         held to make, or to remove, what lies here
        total                        bytes of all files, as of their sizes
        KEY/video.mp4                sparse until it is whole
        KEY/blocks                   a byte for each block: 1 where it is there

KEY is that of a uri, its stamp and the endpoint. Whoever has a file open holds a shared flock on
its folder; what nobody holds may be removed, what was used longest ago first. A block is locked
(fcntl) while it is fetched.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.storage.blocks import BLOCK_BYTES, Blocks
from pipeline.storage.clients import endpoint
from pipeline.storage.own_folder import alone, boot, is_boot, own_folder
from pipeline.storage.uris import split

AUTO_BYTES = 20 * 2**30
"""At most, and half of what is free."""
_SPARE = 0.1
"""Share of the limit that is made free at once: looking through the folder takes a stat a file."""
_WAIT_S = 0.02
"""Between two looks at a block that another process fetches."""
_FORGOTTEN_S = 86400.0
"""After so long, what an earlier boot of some machine has left is removed."""


class Cache:
    """A folder of cached objects, at most `limit` bytes of them."""

    def __init__(self, folder: str, limit: int | None) -> None:
        """
        Args:
            folder: where the cache's own folder is made.
            limit: None: AUTO_BYTES, or half of what is free where that is less.

        Raises UsageError where the folder cannot be made, or others could write to it.
        """
        self._root = own_folder(folder, "decode.cache_folder")
        self.folder = own_folder(folder, "decode.cache_folder", boot())
        try:
            self._forget_others()
        except OSError as error:
            raise UsageError(
                f"cache {self._root}: {error.strerror}; set decode.cache_folder"
            ) from None
        self._limit = limit

    @property
    def limit(self) -> int:
        if self._limit is not None:
            return self._limit
        return min(AUTO_BYTES, (shutil.disk_usage(self.folder).free + self._total()) // 2)

    def open(self, uri: str, stamp: str, size: int) -> CachedBlocks | None:
        """The object's file, made where there is none; None where there is no room for it beside
        what is in use."""
        named = f"{endpoint(split(uri).kind)}\n{uri}\n{stamp}".encode()
        entry = os.path.join(self.folder, hashlib.blake2b(named, digest_size=16).hexdigest())
        with alone(self.folder):
            if not os.path.isdir(entry):
                if not self._make_room(size):
                    return None
                self._make(entry, size, _video(uri))
            held = os.open(entry, os.O_RDONLY)
            fcntl.flock(held, fcntl.LOCK_SH)
        os.utime(entry)
        return CachedBlocks(uri, stamp, size, os.path.join(entry, _video(uri)), held)

    # -- what lies in the folder; all under its lock ----------------------------------

    def _total(self) -> int:
        try:
            return int(Path(self.folder, "total").read_bytes() or b"0")
        except FileNotFoundError:
            return 0

    def _write_total(self, total: int) -> None:
        Path(self.folder, "total").write_bytes(str(total).encode())

    def _make(self, entry: str, size: int, video: str) -> None:
        coming = entry + _HALF
        shutil.rmtree(coming, ignore_errors=True)
        os.mkdir(coming, 0o700)
        for name, length in ((video, size), (_MAP, -(-size // BLOCK_BYTES))):
            with open(os.path.join(coming, name), "xb") as file:
                file.truncate(length)
        os.rename(coming, entry)
        self._write_total(self._total() + size)

    def _make_room(self, size: int) -> bool:
        """Whether a file of `size` has its place now; what nobody uses went for it if need be."""
        limit = self.limit
        if self._total() + size <= limit:
            return True
        if size > limit:
            return False
        entries = sorted(self._entries())
        total = sum(length for _, length, _ in entries)
        wanted = max(0, min(limit - size, int(limit * (1 - _SPARE))))
        for _, length, path in entries:
            if total <= wanted:
                break
            total -= length * self._remove(path)
        self._write_total(total)
        return total + size <= limit

    def _entries(self) -> Iterator[tuple[int, int, str]]:
        """(ns of its last use, bytes, path) of each; what was left half made or half removed
        goes."""
        for entry in os.scandir(self.folder):
            if entry.name.endswith(_HALF):
                shutil.rmtree(entry.path, ignore_errors=True)
            elif entry.is_dir(follow_symlinks=False):
                length = sum(f.stat().st_size for f in os.scandir(entry.path) if f.name != _MAP)
                yield entry.stat().st_mtime_ns, length, entry.path

    def _remove(self, entry: str) -> bool:
        """Whether nobody uses it, and it is gone."""
        held = os.open(entry, os.O_RDONLY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(entry, entry + _HALF)
        except BlockingIOError:
            return False
        finally:
            os.close(held)
        shutil.rmtree(entry + _HALF, ignore_errors=True)
        return True

    def _forget_others(self) -> None:
        for other in os.scandir(self._root):
            if not is_boot(other.name):
                continue  # A shelf's: see `shelf`.
            used = other.path + "/lock"
            with suppress(FileNotFoundError):
                unused_s = time.time() - os.stat(used).st_mtime
                if other.path != self.folder and unused_s > _FORGOTTEN_S:
                    shutil.rmtree(other.path, ignore_errors=True)
        lock = os.path.join(self.folder, "lock")
        Path(lock).touch(0o600)


class CachedBlocks(Blocks):
    """Kept in a sparse file that the processes of a node share."""

    path: str

    def __init__(self, uri: str, stamp: str, size: int, path: str, held: int) -> None:
        """`held`: a descriptor whose lock keeps the file; closed with it."""
        super().__init__(uri, stamp, size)
        self.path = path
        self._held = held
        self._data = os.open(path, os.O_RDWR)
        self._map = os.open(os.path.join(os.path.dirname(path), _MAP), os.O_RDWR)

    @property
    def whole(self) -> bool:
        return b"\0" not in os.pread(self._map, self.count, 0)

    def close(self) -> None:
        super().close()
        for descriptor in (self._data, self._map, self._held):
            os.close(descriptor)

    def _has(self, number: int) -> bool:
        return os.pread(self._map, 1, number) == b"\1"

    def _part(self, number: int, at: int, length: int) -> bytes:
        return os.pread(self._data, length, number * BLOCK_BYTES + at)

    def _keep(self, number: int, data: memoryview) -> None:
        """`_block` has."""

    def _block(self, number: int) -> memoryview:
        # Asked for again and again: of threads of two processes that wait for each other's blocks
        # the system would think that they wait for ever.
        while not self._lock(number):
            time.sleep(_WAIT_S)
        try:
            if self._has(number):
                return memoryview(self._part(number, 0, BLOCK_BYTES))
            data = super()._block(number)
            self._write(number, data)
            return data
        finally:
            fcntl.lockf(self._map, fcntl.LOCK_UN, 1, number)

    def _lock(self, number: int) -> bool:
        try:
            fcntl.lockf(self._map, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _write(self, number: int, data: memoryview) -> None:
        at = number * BLOCK_BYTES
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._data, data[written:], at + written)
            # Only now: whoever sees it there reads it.
            os.pwrite(self._map, b"\1", number)
        except OSError as error:
            folder = os.path.dirname(os.path.dirname(self.path))
            hint = "; set decode.cache lower, or decode.cache_folder"
            reason = f"cache {folder}: {error.strerror}{hint}"
            raise OSError(errno.EIO, reason) from None


_HALF = ".half"
_MAP = "blocks"


def _video(uri: str) -> str:
    """What the file is called: demuxers look at the ending."""
    ending = os.path.splitext(uri)[1].lower()
    return "video" + (ending if ending[1:].isalnum() and ending.isascii() else "")


@lru_cache(maxsize=8)
def cache_in(folder: str | None, limit: int | None) -> Cache:
    """The cache below a folder, the system's for temporary files where None. As `Cache`."""
    return Cache(folder or tempfile.gettempdir(), limit)
