"""The plain files of an output on an object store: see `folder`."""

from __future__ import annotations

import io
import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from pipeline.ledger.folder import Entry, Folder, Log
from pipeline.storage import objects
from pipeline.storage.tables import check_reachable
from pipeline.storage.uris import join

T = TypeVar("T")

PATIENCE_S = 60.0
"""A store that is away for no longer than this, beyond what its client waits, stops nobody."""
CLOCK_S = 600.0
"""For so long our own clock tells the store's, once compared: by then they differ by little."""


class ObjectFolder(Folder):
    """Below a URI of an object store; one of each in a process."""

    def __init__(self, root: str) -> None:
        check_reachable(root)
        self.root = root
        self._clock: tuple[float, float] | None = None
        """(store's time less our steady clock's, when that was found by the steady clock)."""

    def _uri(self, name: str) -> str:
        return join(self.root, name) if name else self.root

    def read(self, name: str, start: int = 0) -> bytes:
        uri = self._uri(name)
        if start:
            return _patiently(lambda: objects.read_from(uri, start))
        return _patiently(lambda: objects.read(uri))

    def write(self, name: str, data: bytes) -> None:
        _patiently(lambda: objects.write(self._uri(name), data))

    @contextmanager
    def create(self, name: str) -> Iterator[Any]:
        sink = io.BytesIO()
        yield sink
        data = sink.getvalue()
        _patiently(lambda: objects.write(self._uri(name), data))

    def touch(self, name: str, data: bytes) -> None:
        objects.write(self._uri(name), data)

    def grow(self, name: str, first: bytes = b"", piece_bytes: int = 0) -> Log:
        log = _ObjectLog(self, name, piece_bytes)
        if first:
            log.append(first)
        return log

    def listed(self, name: str) -> list[Entry]:
        skip = len(self.root) + 1

        def entries() -> list[Entry]:
            found = objects.listed(self._uri(name))
            return [Entry(one.uri[skip:], one.size_bytes, one.modified_s) for one in found]

        return sorted(one for one in _patiently(entries) if "/." not in one.name)

    def folders(self, name: str) -> list[str]:
        found = _patiently(lambda: objects.folders(self._uri(name)))
        return sorted(one for one in found if not one.startswith("."))

    def remove(self, names: Iterable[str]) -> None:
        uris = [self._uri(name) for name in names]
        if uris:
            _patiently(lambda: objects.remove(uris))

    def remove_folder(self, name: str) -> None:
        self.remove(entry.name for entry in self.listed(name))

    def sweep(self, name: str, age_s: float) -> None:
        """Objects are there whole or not at all."""

    def now(self, name: str) -> float:
        steady = time.monotonic()
        if self._clock is None or steady - self._clock[1] > CLOCK_S:
            self._clock = self._compared(f"{name}/.clock-{uuid.uuid4()}") - steady, steady
        return self._clock[0] + time.monotonic()

    def _compared(self, name: str) -> float:
        uri = self._uri(name)
        try:
            objects.write(uri, b"")
            made = objects.stat(uri).modified_s
            objects.remove([uri])
        except objects.StoreRefused:
            return time.time()  # It may only be read.
        return made


class _ObjectLog(Log):
    """Numbered objects, of which a name once left behind is not used again."""

    def __init__(self, folder: ObjectFolder, name: str, piece_bytes: int) -> None:
        self._folder = folder
        self._name = name
        self._piece_bytes = piece_bytes
        self._number = 0
        self._piece = b""
        """What the newest object holds, where more is to be put to it."""
        self._names: list[str] = []

    def append(self, data: bytes) -> None:
        if not self._piece or len(self._piece) + len(data) > self._piece_bytes:
            self._number += 1
            self._names.append(f"{self._name}/{self._number:06d}")
            self._piece = b""
        self._folder.write(self._names[-1], self._piece + data)
        if self._piece_bytes:
            self._piece += data

    def names(self) -> list[str]:
        return self._names

    def clear(self) -> None:
        self._folder.remove(self._names)
        self._names, self._piece = [], b""

    def close(self) -> None:
        self._piece = b""


def _patiently(work: Callable[[], T]) -> T:
    """Try again for a while where a store is away; not where it refuses."""
    until, wait = time.monotonic() + PATIENCE_S, 0.5
    while True:
        try:
            return work()
        except objects.StoreRefused:
            raise
        except objects.StoreError:
            if time.monotonic() + wait > until:
                raise
            time.sleep(random.uniform(wait / 2, wait))
            wait = min(2 * wait, 10.0)
