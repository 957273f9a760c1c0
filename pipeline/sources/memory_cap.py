"""A cap on the address space of a process while it decodes: what a hostile file cannot get past.

FFmpeg and numpy are then told that there is no memory, which fails the video and not the machine.
Linux only; elsewhere there is no cap.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from pipeline.config import Config

_LINUX = sys.platform.startswith("linux")


def max_memory(config: Config) -> int | None:
    """`decode.max_memory` in bytes, None for no cap. `auto` is `memory.limit`: no process alone may
    take what all of them are to share."""
    import psutil

    wanted = config.decode.max_memory
    if wanted == "none":
        return None
    if wanted != "auto":
        return wanted
    limit = config.memory.limit
    return limit if limit != "auto" else psutil.virtual_memory().total // 2


class MemoryCap:
    """Lets decoding take `extra` bytes of address space beyond what the process has beforehand.

    Applied in steps, and off between them: what models and others take meanwhile is not the
    decoder's, and the caller's process is left as it was.
    """

    def __init__(self, extra: int | None) -> None:
        self._extra = extra if _LINUX else None
        self._base = self._left = 0
        self._outside = (0, 0)

    def begin(self) -> None:
        """A new piece of work: what is there now is not its own."""
        if self._extra is not None:
            self._base = self._left = _address_space()

    @contextmanager
    def applied(self) -> Iterator[None]:
        """One step of the work; memory that is not to be had is a MemoryError in it."""
        if self._extra is None:
            yield
            return
        self._apply()
        try:
            yield
        finally:
            self._lift()

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """A pause within a step."""
        self._lift()
        try:
            yield
        finally:
            self._apply()

    def _apply(self) -> None:
        global _in_force
        import resource

        soft, hard = self._outside = resource.getrlimit(resource.RLIMIT_AS)
        self._base += _address_space() - self._left
        limits = [self._base + (self._extra or 0), *(r for r in (soft, hard) if r >= 0)]
        resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
        _in_force = self

    def _lift(self) -> None:
        global _in_force
        import resource

        resource.setrlimit(resource.RLIMIT_AS, self._outside)
        self._left = _address_space()
        _in_force = None


_in_force: MemoryCap | None = None
"""What holds for the process now."""


def uncapped() -> AbstractContextManager[None]:
    """Code within a step that is not the decoder's: what a store's client takes counts for no
    video, and its threads cannot do without, they would end the process."""
    return nullcontext() if _in_force is None else _in_force.lifted()


def _address_space() -> int:
    """Bytes. Source: proc(5), /proc/pid/statm."""
    import resource

    return int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
