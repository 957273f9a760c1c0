"""Running a command as a user would, with its figures and the memory of its process tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Peak:
    """Largest values seen while a command ran, in bytes."""

    private: int
    """Unique set size (memory no other process shares) summed over the process tree."""
    store: int
    """Shared memory in /dev/shm beyond what was there before: the object store."""
    together: int
    """Largest sum of both at one moment."""


def frameledger(*arguments: str, watch: bool = False) -> tuple[dict[str, Any], Peak | None]:
    """`frameledger run ...` in a process of its own: its --json figures, and the memory's peak."""
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        command = [sys.executable, "-m", "pipeline", "run", *arguments, "--json", str(figures)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        peak = _watch(process) if watch else None
        _, errors = process.communicate()
        if process.returncode not in (0, 3):
            raise RuntimeError(f"{' '.join(command)}: {errors.decode()[-2000:]}")
        return json.loads(figures.read_text()), peak


def json_line(command: list[str]) -> dict[str, Any]:
    """The last line that a command prints, which is JSON."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} ...: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _watch(process: subprocess.Popen[bytes]) -> Peak:
    import psutil

    before = _shm_used()
    best = [0, 0, 0]
    stop = threading.Event()

    def sample() -> None:
        root = psutil.Process(process.pid)
        while not stop.wait(0.5):
            private = 0
            try:
                for one in [root, *root.children(recursive=True)]:
                    try:
                        private += one.memory_full_info().uss
                    except psutil.Error:
                        continue  # It ended between being listed and being asked.
            except psutil.Error:
                return
            store = max(0, _shm_used() - before)
            for place, value in enumerate((private, store, private + store)):
                best[place] = max(best[place], value)

    thread = threading.Thread(target=sample)
    thread.start()
    while process.poll() is None:
        time.sleep(0.2)
    stop.set()
    thread.join()
    return Peak(*best)


def _shm_used() -> int:
    status = os.statvfs("/dev/shm")
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def table(title: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a Markdown table under a heading."""
    print(f"\n### {title}\n\n{markdown(header, rows)}")
    sys.stdout.flush()


def markdown(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
