"""Where an analyzer's time goes: seconds by step, without stopping a GPU to look."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class StepTimes:
    """Adds up steps such as preprocess, forward and postprocess.

    On a GPU work is only begun when a call returns. Steps are marked in its own stream of work
    and read by `drain`, when the results are there anyway.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._marks: list[tuple[str, Any, Any]] = []
        self._on_gpu = False

    def on(self, device: str) -> None:
        """Say where the steps run; on a CPU until then."""
        self._on_gpu = device.startswith("cuda")

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        if self._on_gpu:
            import torch

            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            yield
            end.record()
            self._marks.append((name, begin, end))
            return
        started = time.perf_counter()
        yield
        self._add(name, time.perf_counter() - started)

    def drain(self) -> dict[str, float]:
        """Seconds by step since the last call."""
        for name, begin, end in self._marks:
            end.synchronize()
            self._add(name, begin.elapsed_time(end) / 1e3)
        self._marks.clear()
        seconds, self._seconds = self._seconds, {}
        return seconds

    def _add(self, name: str, seconds: float) -> None:
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds
