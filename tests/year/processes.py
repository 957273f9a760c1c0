"""Runs as processes of their own: some are killed, some meet another one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.year.synthetic import MODELS, Models

ROOT = Path(__file__).parents[2]
RUN_S = 600.0
"""A run that takes longer hangs. The longest takes half a minute on an idle machine, and has taken
four on one that had half of its CPU taken away."""


@dataclass
class Process:
    """One run."""

    popen: subprocess.Popen[str]
    report: Path

    def ended(self) -> tuple[int, str, dict[str, Any]]:
        """Exit code, what it said, and its report."""
        said, errors = self.popen.communicate(timeout=RUN_S)
        record = self.report / "run.json"
        told = json.loads(record.read_text()) if record.exists() else {}
        return self.popen.returncode, said + errors, told

    def kill_when(self, when: Callable[[], bool]) -> bool:
        """SIGKILL once `when` says so; False where the run has ended before."""
        while self.popen.poll() is None:
            if when():
                self.popen.kill()
                break
            time.sleep(0.003)
        self.popen.communicate(timeout=RUN_S)
        return self.popen.returncode < 0


def start(models: Models, arguments: list[str], report: Path) -> Process:
    """`frameledger run ARGUMENTS` with the synthetic analyzers, beside this process."""
    for old in report.glob("*"):
        old.unlink()
    command = [sys.executable, "-m", "tests.year.synthetic", "run", *arguments]
    popen = subprocess.Popen(
        [*command, "--engine", "local", "--report", str(report)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, MODELS: str(models), "PYTHONPATH": str(ROOT)},
    )
    return Process(popen, report)
