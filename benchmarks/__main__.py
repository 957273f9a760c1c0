"""`python -m benchmarks [NAME ...]`: print the tables that the README quotes."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.crash import crash
from benchmarks.memory import memory
from benchmarks.models import models
from benchmarks.throughput import throughput

TABLES = {"throughput": throughput, "memory": memory, "crash": crash, "models": models}
WORK = Path("bench-output")
VIDEOS = Path("../shared/videos")
"""Real videos; the demo world's are used where the folder is absent."""


def main() -> None:
    names = sys.argv[1:] or list(TABLES)
    unknown = [name for name in names if name not in TABLES]
    if unknown:
        sys.exit(f"unknown benchmark {unknown[0]}; there are {', '.join(TABLES)}")
    WORK.mkdir(exist_ok=True)
    for name in names:
        TABLES[name](WORK, VIDEOS if VIDEOS.is_dir() else None)


if __name__ == "__main__":
    main()
