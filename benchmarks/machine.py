"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def machine(device: str) -> dict[str, str]:
    """The device's name, the CPU's, and the versions of what computes."""
    import torch

    cpu = f"{_cpu_name()}, {len(os.sched_getaffinity(0))} cores"
    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    found = {"device": gpu or f"CPU, {torch.get_num_threads()} threads", "on": cpu}
    found["torch"] = torch.__version__
    for package in ("transformers", "detectron2"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
