"""Files on a node's disk that outlive runs, bounded, shared by the node's processes.

    FOLDER/frameledger-UID/NAME/   0700
        lock                       held to add, or to remove, what lies here
        total                      the boot that it is of, and bytes of all files
        KEY/FILE                   whole, and never written to again
        KEY/FILE.TOKEN.half        being written, by whoever holds a flock on it

A file comes by a rename, so that nobody sees half of one. Of two that write the same, the first to
end has written it and the other's goes: writers never wait for each other. Whoever reads a file
holds a shared flock on it. For room, files go that were used longest ago; never one that is open,
nor one that was used since this process began: a run over more than there is room for would else
remove each file before the next run came to it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import UsageError
from pipeline.storage.own_folder import alone, boot, own_folder

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HALF = ".half"
_SPARE = 0.1
"""Share of the limit that is made free at once: looking through all of it takes a stat a file."""

_LEFT_BYTES = 2**30
"""Left free on the disk, which may be that of the tables."""


class Shelf:
    """A folder of files in groups, at most `limit` bytes of them."""

    def __init__(self, folder: str, name: str, limit: int, setting: str) -> None:
        """`setting`: the configuration's key for `folder`. Raises UsageError as `own_folder`."""
        self.folder = own_folder(folder, setting, name)
        self._limit = limit
        self._since_ns = 0
        try:
            with alone(self.folder):
                # By the clock that files get their times from: it may be some ms behind time().
                lock = os.path.join(self.folder, "lock")
                os.utime(lock)
                self._since_ns = os.stat(lock).st_mtime_ns
                self._write_total(self._total())
        except OSError as error:
            # A full disk costs what cannot be added, and not the run.
            if error.errno not in _FULL:
                raise UsageError(f"cache {self.folder}: {error.strerror}; set {setting}") from None

    def names(self, key: str) -> list[str]:
        """The files of a group."""
        try:
            found = os.listdir(os.path.join(self.folder, key))
        except OSError:
            return []
        return [name for name in found if not name.endswith(_HALF)]

    def open(self, key: str, name: str) -> BinaryIO | None:
        """A file, kept from removal until it is closed; None where it has gone."""
        path = os.path.join(self.folder, key, name)
        try:
            file = os.fdopen(os.open(path, os.O_RDONLY), "rb")
        except OSError:
            return None
        fcntl.flock(file, fcntl.LOCK_SH)
        with suppress(OSError):
            os.utime(path)
        return file

    def remove(self, key: str, name: str) -> None:
        """A file that is not what it should be."""
        path = os.path.join(self.folder, key, name)
        with suppress(OSError), alone(self.folder):
            size = os.stat(path).st_size
            os.unlink(path)
            self._add(-size)

    def begin(self, key: str, name: str, size: int) -> Coming | None:
        """A file to be written, of about `size` bytes; None where there is no room for it beside
        what is in use. Raises OSError."""
        group = os.path.join(self.folder, key)
        with alone(self.folder):
            if not self._make_room(size):
                return None
            os.makedirs(group, 0o700, exist_ok=True)
            path = os.path.join(group, f"{name}.{uuid.uuid4().hex[:8]}{_HALF}")
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
            file = os.fdopen(os.open(path, flags, 0o600), "wb")
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                _take(file, size)
                self._add(size)
            except OSError:
                file.close()
                os.unlink(path)
                raise
        return Coming(self, file, path, os.path.join(group, name), size)

    # -- all of it under the lock -----------------------------------------------------

    def _total(self) -> int:
        """After a restart of the machine it is counted anew: of what was written last before it
        nobody knows."""
        with suppress(OSError, ValueError):
            of, total = Path(self.folder, "total").read_text().split()
            if of == boot():
                return int(total)
        return sum(size for _, size, _ in self._files())

    def _write_total(self, total: int) -> None:
        Path(self.folder, "total").write_text(f"{boot()} {max(0, total)}")

    def _add(self, size: int) -> None:
        self._write_total(self._total() + size)

    def _make_room(self, size: int) -> bool:
        total = self._total()
        limit = min(self._limit, total + shutil.disk_usage(self.folder).free - _LEFT_BYTES)
        if total + size <= limit or size > limit:
            return size <= limit
        files = sorted(self._files())
        total = sum(length for _, length, _ in files)
        wanted = max(0, min(limit - size, int(limit * (1 - _SPARE))))
        for used_ns, length, path in files:
            if total <= wanted or used_ns >= self._since_ns:
                break
            total -= length * _removed(path)
        self._write_total(total)
        return total + size <= limit

    def _files(self) -> Iterator[tuple[int, int, str]]:
        """(ns of its last use, bytes, path) of each; what was left half written goes, and groups
        without files."""
        for group in os.scandir(self.folder):
            if not group.is_dir(follow_symlinks=False):
                continue
            for file in os.scandir(group.path):
                if file.name.endswith(_HALF) and _removed(file.path):
                    continue
                with suppress(FileNotFoundError):
                    found = file.stat()
                    yield found.st_mtime_ns, found.st_size, file.path
            with suppress(OSError):
                os.rmdir(group.path)


class Coming:
    """A file that is being written."""

    def __init__(self, shelf: Shelf, file: BinaryIO, path: str, target: str, size: int) -> None:
        self.file = file
        self._shelf = shelf
        self._path = path
        self._target = target
        self._size = size

    def publish(self) -> None:
        """What was written, up to where the file stands now, is there for all, unless another has
        written the same. Raises OSError, after which it is gone."""
        try:
            self.file.truncate()
            self.file.flush()
            with alone(self._shelf.folder):
                if os.path.exists(self._target):
                    os.unlink(self._path)
                    self._shelf._add(-self._size)
                else:
                    written = self.file.tell()
                    os.rename(self._path, self._target)
                    self._shelf._add(written - self._size)
        except OSError:
            self.drop()
            raise
        self._close()

    def drop(self) -> None:
        """It is not to be."""
        with suppress(OSError), alone(self._shelf.folder):
            os.unlink(self._path)
            self._shelf._add(-self._size)
        self._close()

    def _close(self) -> None:
        # What is buffered is written on closing, to a disk that may be full.
        with suppress(OSError):
            self.file.close()


def _take(file: BinaryIO, size: int) -> None:
    """Room on the disk, so that it is known at once where there is none, and whoever counts counts
    all of it."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)


def _removed(path: str) -> bool:
    """Whether nobody uses it, and it is gone."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
