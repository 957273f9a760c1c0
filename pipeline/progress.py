"""A run's figures while it goes on: live on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from pipeline.engine.stats import RunStats

LINE_EVERY_S = 5.0


class Progress(Protocol):
    """Shown a run's figures between entering and leaving `watching`."""

    def watching(self, stats: RunStats):  # type: ignore[no-untyped-def]
        """A context manager around the run; `stats` changes while it is open."""
        ...


def describe(stats: RunStats) -> str:
    """The figures in one line."""
    ended = sum(stats.videos.values())
    rate = (
        stats.frames_seen / max(1e-9, time.perf_counter() - stats.first_work_at)
        if (stats.first_work_at)
        else 0.0
    )
    phase = f"{stats.waiting_for}; " if stats.waiting_for else ""
    if not stats.first_work_at:
        phase = f"starting: {stats.waiting_for}; " if stats.waiting_for else "starting; "
    return (
        f"{phase}videos {ended}/{stats.videos_started} ended, clips {stats.clips:,}, "
        f"frames {stats.frames_seen:,} ({rate:,.0f}/s), "
        f"in flight {stats.in_flight_bytes / 2**20:,.0f} MiB, failures {stats.failures}"
    )


def choose_progress(stream: TextIO | None = None) -> Progress:
    """By what stderr is."""
    stream = stream or sys.stderr
    return _Live(stream) if stream.isatty() else _Lines(stream)


class _Lines:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @contextmanager
    def watching(self, stats: RunStats) -> Iterator[None]:
        with _every(LINE_EVERY_S, lambda: print(describe(stats), file=self._stream, flush=True)):
            yield


class _Live:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @contextmanager
    def watching(self, stats: RunStats) -> Iterator[None]:
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.text import Text

        spinner = Spinner("dots", Text("starting"))
        console = Console(file=self._stream)
        live = Live(spinner, console=console, refresh_per_second=8, transient=True)
        with live, _every(0.25, lambda: spinner.update(text=Text(describe(stats)))):
            yield


@contextmanager
def _every(seconds: float, action) -> Iterator[None]:  # type: ignore[no-untyped-def]
    """Call `action` from a thread of its own, so that a busy engine need not think of it."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(seconds):
            action()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
