"""A value that costs something to read, kept for a while: a run may be writing meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

LEAST_S = 3.0
_TIMES_ITS_COST = 20


class Kept(Generic[T]):
    """What `read` returns, read again when it is older than `LEAST_S` and 20 times its cost."""

    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._value: T | None = None
        self._until = 0.0

    def get(self) -> T:
        with self._lock:
            started = time.monotonic()
            if self._value is None or started >= self._until:
                self._value = self._read()
                now = time.monotonic()
                self._until = now + max(LEAST_S, _TIMES_ITS_COST * (now - started))
            return self._value
