"""What an output weighs, and what a day without runs makes of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.ledger.schema import TABLES


@dataclass(frozen=True)
class Sizes:
    """Bytes and files on disk: of the data of all tables, and of their logs."""

    data_bytes: int
    data_files: int
    log_bytes: int
    log_files: int


def sizes(output: Path) -> Sizes:
    data, logs = [], []
    for table in TABLES:
        for path in (output / table).rglob("*"):
            if path.is_file():
                (logs if "_delta_log" in path.parts else data).append(path.stat().st_size)
    return Sizes(sum(data), len(data), sum(logs), len(logs))


def age(output: Path, days: float = 1.0) -> None:
    """Everything in a folder was written so much earlier."""
    for path in output.rglob("*"):
        status = path.stat()
        os.utime(path, (status.st_atime - days * 86400, status.st_mtime - days * 86400))
