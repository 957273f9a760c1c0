"""Real Ray clusters on this machine, as `ray start` makes them, beside whatever else runs here.

Each has ports, a temporary folder and (where wanted) a token of its own, and is ended by the
processes that were started: never by `ray stop`, which ends every Ray of the machine.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
START_S = 300.0
STORE_BYTES = 150_000_000


@dataclass
class Head:
    """A head node, with those who joined it."""

    folder: Path
    gcs: str
    job_api: str
    token_file: Path | None
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What a user sets who works with this cluster; no token where it has none."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        mine = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "RAY_TMPDIR": str(self.folder),
            "RAY_USAGE_STATS_ENABLED": "0",
            # However full the disk of the tests' machine is.
            "RAY_local_fs_capacity_threshold": "1",
            # Nor is a node gone because the machine is busy: nothing here waits for Ray to see it.
            "RAY_agent_register_timeout_ms": "600000",
            "RAY_health_check_timeout_ms": "120000",
            "PYTHONUNBUFFERED": "1",
            "HOME": str(self.folder / "home"),
            "PYTHONPATH": str(ROOT),
        }
        if self.token_file is not None:
            mine |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_file)}
        return kept | mine

    def ray(self, *arguments: str, **environment: str) -> None:
        """`ray start ARGUMENTS`, in the foreground of a process that is remembered."""
        log = open(self.folder / f"start-{len(self.processes)}.log", "wb")  # noqa: SIM115
        with log:
            process = subprocess.Popen(
                [
                    *(str(BIN / "ray"), "start", "--block", "--min-worker-port=0"),
                    *("--max-worker-port=0", f"--dashboard-agent-listen-port={free_port()}"),
                    *arguments,
                ],
                env=self.environment | environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)

    def join(self, *arguments: str, **environment: str) -> None:
        """Add a node, and wait until it is there."""
        store = () if any("object-store" in a for a in arguments) else (f"{STORE}={STORE_BYTES}",)
        log = self.folder / f"start-{len(self.processes)}.log"
        self.ray(f"--address={self.gcs}", *store, *arguments, **environment)
        until = time.monotonic() + START_S
        while "Ray runtime started" not in log.read_text():
            assert time.monotonic() < until, log.read_text()
            assert self.processes[-1].poll() is None, log.read_text()
            time.sleep(0.1)

    def end(self) -> None:
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self.processes):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


STORE = "--object-store-memory"


@contextmanager
def head(*arguments: str, token: bool = True, **environment: str) -> Iterator[Head]:
    """A head node with its dashboard on loopback; gone at the end with its folder."""
    folder = Path(tempfile.mkdtemp(prefix="fl-head-", dir="/tmp"))
    (folder / "home").mkdir()
    token_file = None
    if token:
        token_file = folder / "token"
        token_file.touch(mode=0o600)
        token_file.write_text(secrets.token_hex(32))
    gcs, dashboard, client = free_port(), free_port(), free_port()
    # Ray gives its head the address of this machine in the network, where it has one.
    made = Head(folder, f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}", token_file)
    try:
        made.ray(
            *("--head", f"--port={gcs}", f"--ray-client-server-port={client}"),
            *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", "--num-cpus=2"),
            *(f"--temp-dir={folder}/ray", f"{STORE}={STORE_BYTES}"),
            *arguments,
            **environment,
        )
        _wait_for(made)
        yield made
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(made: Head) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        assert made.processes[0].poll() is None, (made.folder / "start-0.log").read_text()
        try:
            urllib.request.urlopen(f"{made.job_api}/api/version", timeout=5)
            return
        except urllib.error.HTTPError:  # It is there, and asks for the token.
            return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"no dashboard in {START_S:g} s")


def free_port() -> int:
    """One below those that the system gives to connections (32768 and up on Linux): between this
    look and its use it would be taken by whatever else connects."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def frameledger(
    made: Head, *arguments: object, timeout: float = 600, cwd: Path | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """The command as a user of the cluster types it."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd or made.folder,
        env=made.environment | more,
        check=False,
    )
