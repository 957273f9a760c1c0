"""Where rounds are played one after the other: a folder, a cluster that is kept, runs."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.cluster import Cluster
from tests.chaos.corpus import CONFIG
from tests.chaos.processes import MARK, end_all, orphans

ROOT = Path(__file__).parents[2]
HOOK = Path(__file__).parent / "hook"
RUN_S = 90.0
"""A run that takes longer hangs."""
OWN = ("tmp", "home", "here")
"""Folders that a run is given as its temporary, home and working folder, to be left empty."""


@dataclass(frozen=True)
class Ended:
    """How a process of a round ended."""

    code: int
    stderr: str
    seconds: float
    hung: bool
    left: tuple[str, ...]
    """Processes and files that it left behind."""


class Lane:
    """Played by one thread. The cluster starts when a round first needs it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.name = str(folder)
        self._cluster: Cluster | None = None
        self._token = secrets.token_hex(32)

    @property
    def cluster(self) -> Cluster:
        if self._cluster is None or not self._cluster.alive:
            self._cluster = self._start()
        return self._cluster

    def _start(self) -> Cluster:
        try:
            return Cluster(self.folder, self._env("cluster"))
        except RuntimeError:
            # On a busy machine Ray gives up on processes of its own that are slow to start.
            return Cluster(self.folder, self._env("cluster"))

    @property
    def _spared(self) -> frozenset[int]:
        return self._cluster.lost if self._cluster is not None else frozenset()

    def close(self) -> None:
        end_all(self.name)
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None

    def run(
        self,
        arguments: list[str],
        home: Path,
        *,
        env: dict[str, str] | None = None,
        meanwhile: Callable[[subprocess.Popen[bytes]], Callable[[], None]] | None = None,
    ) -> Ended:
        """`python -m pipeline ARGUMENTS` to its end.

        Args:
            home: folder for what it says and leaves.
            meanwhile: is given the process when it has started; what it returns is called when
                the process has ended.
        """
        started = time.monotonic()
        for name in OWN:
            (home / name).mkdir(exist_ok=True)
        with open(home / "stdout", "wb") as out, open(home / "stderr", "wb") as err:
            driver = subprocess.Popen(
                [sys.executable, "-m", "pipeline", *arguments],
                stdout=out,
                stderr=err,
                env=self._env("run", home) | (env or {}),
                cwd=home / "here",
                start_new_session=True,
            )
            after = meanwhile(driver) if meanwhile is not None else None
            hung = not _wait(driver, RUN_S)
            if after is not None:
                after()
        seconds = time.monotonic() - started
        left = [f"process {name}" for name in orphans(self.name, self._spared)]
        if left:
            end_all(self.name)
        shutil.rmtree(self.folder / "own", ignore_errors=True)
        left += [f"file {path}" for name in OWN for path in (home / name).rglob("*")]
        said = (home / "stderr").read_text(errors="replace")
        return Ended(driver.returncode, said, seconds, hung, tuple(left))

    def _env(self, what: str, home: Path | None = None) -> dict[str, str]:
        """The environment of the cluster, or of a run (whose own Ray goes to another folder)."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        env[MARK] = f"{self.name}:{what}"
        env["PYTHONPATH"] = os.pathsep.join([str(HOOK), str(ROOT)])
        env["RAY_TMPDIR"] = str(self.folder / ("ray" if what == "cluster" else "own"))
        env["RAY_AUTH_MODE"], env["RAY_AUTH_TOKEN"] = "token", self._token
        # On SIGABRT, a run that hangs says where.
        env["PYTHONFAULTHANDLER"] = "1"
        if home is not None:
            env["TMPDIR"], env["HOME"] = str(home / "tmp"), str(home / "home")
        return env


def run_arguments(corpus: Path, output: Path, settings: list[str], where: list[str]) -> list[str]:
    sets = [word for setting in settings for word in ("--set", setting)]
    return ["run", str(CONFIG), str(corpus), "--output", str(output), *sets, *where]


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether it ended by itself."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return False
    return True
