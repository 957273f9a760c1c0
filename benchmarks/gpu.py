"""What a GPU says of itself while something runs on it: how busy it is, what memory it holds."""

from __future__ import annotations

import gc
import statistics
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

PERIOD_S = 0.1
"""Between two samples. NVML's own are means over the last sixth of a second to a second."""


class Busy:
    """Samples `read`, percent of time in which a kernel ran, in a thread until it is left.

    Attributes:
        share: mean of the samples, 0 to 1; None without any.
    """

    def __init__(self, read: Callable[[], float] | None, period_s: float = PERIOD_S) -> None:
        self._read = read
        self._period_s = period_s
        self._samples: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> Busy:
        if self._read is not None:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._read is not None:
            self._thread.join()

    @property
    def share(self) -> float | None:
        return statistics.mean(self._samples) / 100 if self._samples else None

    def _sample(self) -> None:
        assert self._read is not None
        while not self._stop.wait(self._period_s):
            self._samples.append(self._read())


def utilization(device: str) -> Callable[[], float] | None:
    """Reads the GPU in use, through nvidia-ml-py or else nvidia-smi; None where neither can."""
    if device == "cpu":
        return None
    import torch

    def smi() -> float:
        uuid = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
        query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        command = ["nvidia-smi", f"--id=GPU-{uuid}", *query]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    def nvml() -> float:
        return float(torch.cuda.utilization())

    for read in (nvml, smi):
        # Whatever a machine without one of them raises, the figure can be left out.
        with suppress(Exception):
            read()
            return read
    return None


def reset_memory(device: str) -> None:
    """Let go of what earlier models held, and forget the peak."""
    gc.collect()
    if device != "cpu":
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: str) -> tuple[int, int] | None:
    """Most bytes allocated by tensors, and reserved from the GPU, since `reset_memory`."""
    if device == "cpu":
        return None
    import torch

    return int(torch.cuda.max_memory_allocated()), int(torch.cuda.max_memory_reserved())
