"""A Ray cluster in a process of its own, for drivers to attach to, with a node that can be lost.

The process (`python -m tests.chaos.cluster`) reads a word a line and answers each with a line; at
the end of its input, so also when the campaign is killed, the cluster ends with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

STORE_BYTES = 150 * 2**20
HEAD_CPUS, NODE_CPUS = 2, 2
FAST_HEALTH = {
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 20_000,
    "health_check_failure_threshold": 3,
    "agent_register_timeout_ms": 600_000,
}
"""A lost node, which refuses calls, is noticed within two seconds instead of a quarter of a minute;
one that is only slow on a busy machine is not."""


class Cluster:
    """A handle on the process. `address` is what drivers take with --address."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._log = open(folder / "cluster.log", "wb")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.cluster"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=env,
            cwd=folder,
            text=True,
        )
        self.lost: frozenset[int] = frozenset()
        """Process ids of the workers of a node that was killed."""
        self._has_second = False
        self.address = self._answer()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def add_node(self) -> None:
        self._ask("add")
        self._has_second = True

    def kill_node(self) -> None:
        """SIGKILL of the second node's raylet. Its workers live on for a quarter of a minute, as
        they would where a node has only lost its network."""
        self.lost = frozenset(map(int, self._ask("kill").split()[1:]))

    def remove_node(self) -> None:
        """Forget the second node, whatever became of it, and end its workers."""
        if self._has_second:
            self._ask("remove")
        self._has_second, self.lost = False, frozenset()

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _ask(self, word: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"the test cluster is gone: see {self._log.name}")
        return line


def main() -> None:
    from ray.cluster_utils import Cluster as RayCluster

    # Ray prints to stdout what the campaign would take for answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    head = {
        "num_cpus": HEAD_CPUS,
        "include_dashboard": False,
        "object_store_memory": STORE_BYTES,
        "_system_config": FAST_HEALTH,
    }
    cluster = RayCluster(initialize_head=True, head_node_args=head)
    print(cluster.address, file=answers, flush=True)
    node, workers = None, []
    for word in sys.stdin:
        if word == "add\n":
            node = cluster.add_node(num_cpus=NODE_CPUS, object_store_memory=STORE_BYTES)
        else:
            workers += _workers(node)
            if word == "kill\n":
                os.kill(_raylet(node), signal.SIGKILL)
            else:
                cluster.remove_node(node, allow_graceful=False)
                _end(workers)
        print("done", *[worker.pid for worker in workers], file=answers, flush=True)
    cluster.shutdown()


def _raylet(node: Any) -> int:
    return node.all_processes["raylet"][0].process.pid


def _workers(node: Any) -> list[psutil.Process]:
    try:
        return psutil.Process(_raylet(node)).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _end(workers: list[psutil.Process]) -> None:
    for worker in workers:
        with suppress(psutil.NoSuchProcess):
            worker.kill()
    workers.clear()


if __name__ == "__main__":
    main()
