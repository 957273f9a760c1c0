"""The bytes of one version of an object in blocks, each asked for when it is needed.

What is read one block behind the other is fetched further and further ahead, several blocks at
once. Whoever reads it all, or most of it, in order has its sha256 for nothing.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from pipeline.storage.objects import read_version

BLOCK_BYTES = 4 * 2**20
"""A request costs a store some 50 ms before its first byte, as long as it takes to send this."""
PARALLEL = 4
"""Blocks on their way at once. A store sends each connection some 50 to 100 MB a second."""
KEPT = 2 * PARALLEL
"""Blocks in memory: what is fetched at once, and as much for a container that is read in two
places at a time."""


class Blocks:
    """Kept in memory, the last few of them.

    Every method raises ObjectChanged where the object is another by now, FileNotFoundError and
    StoreError. For one thread.
    """

    path: str | None = None
    """A local file with all the bytes once `whole`, where they are kept on disk."""

    def __init__(self, uri: str, stamp: str, size: int) -> None:
        self.uri = uri
        self.stamp = stamp
        self.size = size
        self._kept: OrderedDict[int, memoryview] = OrderedDict()
        self._next, self._ahead = -1, 1
        self._digest = hashlib.sha256()
        self._hashed = 0
        """Blocks that the digest has seen."""

    @property
    def count(self) -> int:
        return -(-self.size // BLOCK_BYTES)

    @property
    def whole(self) -> bool:
        """Whether nothing has to be fetched any more."""
        return False

    def close(self) -> None:
        """Give back what it holds."""
        self._kept.clear()

    def read(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop), fewer at the end of the object."""
        stop = min(stop, self.size)
        parts = []
        while start < stop:
            number, at = divmod(start, BLOCK_BYTES)
            if not self._has(number):
                self._fetch(number)
            length = min(stop - start, BLOCK_BYTES - at)
            parts.append(self._part(number, at, length))
            start += length
        return b"".join(parts)

    def sha256(self) -> str:
        """Hex, of all the bytes: what was not read before is read now, and kept where there is
        room for all of it."""
        for number, data in self._stream(self._hashed):
            self._see(number, data)
        return self._digest.hexdigest()

    # -- what is kept -----------------------------------------------------------------

    def _has(self, number: int) -> bool:
        return number in self._kept

    def _part(self, number: int, at: int, length: int) -> bytes:
        self._kept.move_to_end(number)
        return bytes(self._kept[number][at : at + length])

    def _block(self, number: int) -> memoryview:
        """A whole block, from wherever it is to be had. Called in several threads at once."""
        start = number * BLOCK_BYTES
        stop = min(start + BLOCK_BYTES, self.size)
        return read_version(self.uri, self.stamp, start, stop)

    def _keep(self, number: int, data: memoryview) -> None:
        """In memory, since it is likely asked for soon."""
        self._kept[number] = data
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    # -- what is fetched --------------------------------------------------------------

    def _fetch(self, number: int) -> None:
        """A block, and some behind it where reading goes forward."""
        self._ahead = min(2 * self._ahead, PARALLEL) if number == self._next else 1
        stop = min(number + self._ahead, self.count)
        self._next = stop
        wanted = [one for one in range(number, stop) if one == number or not self._has(one)]
        for fetched, data in self._all(wanted):
            self._keep(fetched, data)
            self._see(fetched, data)

    def _see(self, number: int, data: memoryview) -> None:
        if number == self._hashed:
            self._digest.update(data)
            self._hashed += 1

    def _stream(self, start: int) -> Iterator[tuple[int, memoryview]]:
        yield from self._all(range(start, self.count))

    def _all(self, numbers: range | list[int]) -> Iterator[tuple[int, memoryview]]:
        """Those blocks in order, several on their way at once."""
        if len(numbers) == 1:
            yield numbers[0], self._block(numbers[0])
            return
        waiting: deque[tuple[int, Future[memoryview]]] = deque()
        # All have ended before it is left: none writes into a file that has been closed.
        with ThreadPoolExecutor(PARALLEL, "blocks") as pool:
            try:
                for number in numbers:
                    waiting.append((number, pool.submit(self._block, number)))
                    if len(waiting) == PARALLEL:
                        yield _taken(waiting)
                while waiting:
                    yield _taken(waiting)
            finally:
                pool.shutdown(cancel_futures=True)


def _taken(waiting: deque[tuple[int, Future[memoryview]]]) -> tuple[int, memoryview]:
    number, coming = waiting.popleft()
    return number, coming.result()
