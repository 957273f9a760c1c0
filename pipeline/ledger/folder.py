"""Plain files beside the tables: the few things done with them, on a disk and on an object store.

                            disk                                store
    a file comes whole      written under another name,         an object
                            renamed
    a file grows (`Log`)    is appended to                      objects NAME/000001, 000002 ...
    a file is still wanted  is touched                          is written again
    what time it is         by a file made now                  by an object made now, and from
                                                                then on by our own steady clock

Names are relative to the output, with slashes; names that begin with a dot are never listed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, NamedTuple

from pipeline.storage.uris import is_remote, split


class Entry(NamedTuple):
    """A file as a listing knows it."""

    name: str
    size_bytes: int
    modified_s: float
    """Seconds since 1970 by the clock of the file system or store."""


class Log(ABC):
    """A file that grows. Used by one thread of one process."""

    @abstractmethod
    def append(self, data: bytes) -> None:
        """Add all of `data`; it outlives the process once this returns."""

    @abstractmethod
    def names(self) -> list[str]:
        """The files that it consists of."""

    @abstractmethod
    def clear(self) -> None:
        """Empty it; whoever follows it sees that."""

    @abstractmethod
    def close(self) -> None: ...


class Folder(ABC):
    """The root of an output. All raise OSError (a store: StoreError) where it cannot be used."""

    root: str

    @abstractmethod
    def read(self, name: str, start: int = 0) -> bytes:
        """A file from byte `start` on. Raises FileNotFoundError."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Put a file in place, whole or not at all, over what is there."""

    @abstractmethod
    @contextmanager
    def create(self, name: str) -> Iterator[Any]:
        """A stream to write a new, large file to; nothing is left of it after an error."""

    @abstractmethod
    def touch(self, name: str, data: bytes) -> None:
        """Say that a file is still wanted; it holds `data`, and is made anew where it is gone."""

    @abstractmethod
    def grow(self, name: str, first: bytes = b"", piece_bytes: int = 0) -> Log:
        """A new file that grows, and never was without `first`.

        Args:
            piece_bytes: on a store, so much is put together in one object, by writing it again.
        """

    @abstractmethod
    def listed(self, name: str) -> list[Entry]:
        """All files below a folder, by name; none where there is no such folder."""

    @abstractmethod
    def folders(self, name: str) -> list[str]:
        """Names of the folders in a folder."""

    @abstractmethod
    def remove(self, names: Iterable[str]) -> None:
        """Remove files, those that are gone already included."""

    @abstractmethod
    def remove_folder(self, name: str) -> None:
        """Remove all below a folder, and the folder that it is in where it was the last there."""

    @abstractmethod
    def sweep(self, name: str, age_s: float) -> None:
        """Remove what a kill has left of the making of files below a folder, of at least an age."""

    @abstractmethod
    def now(self, name: str) -> float:
        """Seconds since 1970 by the clock that dates the files of a folder."""


def folder_at(root: str) -> Folder:
    """The folder of an output. Raises UsageError where it is on a store that cannot be used."""
    return _on_store(split(root).uri) if is_remote(root) else LocalFolder(root)


@lru_cache(maxsize=64)
def _on_store(root: str) -> Folder:
    from pipeline.ledger.object_folder import ObjectFolder

    return ObjectFolder(root)


class LocalFolder(Folder):
    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)

    def _path(self, name: str) -> str:
        return os.path.join(self.root, name)

    def read(self, name: str, start: int = 0) -> bytes:
        with open(self._path(name), "rb") as file:
            file.seek(start)
            return file.read()

    def write(self, name: str, data: bytes) -> None:
        file = self._replaced(name, data)
        file.close()

    def _replaced(self, name: str, data: bytes) -> Any:
        """The file, open, once it is in its place with `data` in it."""
        path = self._path(name)
        new = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.new")
        while True:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with suppress(FileNotFoundError):  # The folder was empty, and somebody removed it.
                file = open(new, "wb", buffering=0)  # noqa: SIM115
                break
        try:
            _write_all(file, data)
            os.replace(new, path)
        except OSError:
            file.close()
            raise
        return file

    @contextmanager
    def create(self, name: str) -> Iterator[Any]:
        path = self._path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            with open(path, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):
                os.unlink(path)
            raise

    def touch(self, name: str, data: bytes) -> None:
        try:
            os.utime(self._path(name))
        except FileNotFoundError:
            self.write(name, data)

    def grow(self, name: str, first: bytes = b"", piece_bytes: int = 0) -> Log:
        return _LocalLog(name, self._replaced(name, first))

    def listed(self, name: str) -> list[Entry]:
        found: list[Entry] = []
        self._walk(name, found)
        return sorted(found)

    def _walk(self, name: str, found: list[Entry]) -> None:
        try:
            entries = list(os.scandir(self._path(name)))
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            below = f"{name}/{entry.name}" if name else entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                self._walk(below, found)
            else:
                with suppress(FileNotFoundError):  # Gone meanwhile.
                    status = entry.stat()
                    found.append(Entry(below, status.st_size, status.st_mtime))

    def folders(self, name: str) -> list[str]:
        try:
            found = [entry.name for entry in os.scandir(self._path(name)) if entry.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(one for one in found if not one.startswith("."))

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            with suppress(FileNotFoundError):
                os.unlink(self._path(name))

    def remove_folder(self, name: str) -> None:
        shutil.rmtree(self._path(name), ignore_errors=True)
        self._prune(name)

    def _prune(self, name: str) -> None:
        parent = os.path.dirname(name)
        with suppress(OSError):  # Others have theirs there.
            if parent:
                os.rmdir(self._path(parent))

    def sweep(self, name: str, age_s: float) -> None:
        before = self.now(name) - age_s
        for path, _, files in os.walk(self._path(name), topdown=False):
            with suppress(OSError):
                for file in (os.path.join(path, one) for one in files if one.startswith(".")):
                    if os.stat(file).st_mtime < before:
                        os.unlink(file)
                if os.stat(path).st_mtime < before:
                    os.rmdir(path)

    def now(self, name: str) -> float:
        try:
            with tempfile.NamedTemporaryFile(dir=self._path(name), prefix=".clock-") as probe:
                return os.stat(probe.name).st_mtime
        except OSError:
            return time.time()


class _LocalLog(Log):
    """A file that is appended to, one unbuffered write each time."""

    def __init__(self, name: str, file: Any) -> None:
        self._name = name
        self._file = file

    def append(self, data: bytes) -> None:
        _write_all(self._file, data)

    def names(self) -> list[str]:
        return [self._name]

    def clear(self) -> None:
        self._file.truncate(0)
        self._file.seek(0)

    def close(self) -> None:
        self._file.close()


def _write_all(file: Any, data: bytes) -> None:
    rest = memoryview(data)
    while rest:  # A disk that is nearly full takes a part, and says no to the next.
        rest = rest[file.write(rest) :]
