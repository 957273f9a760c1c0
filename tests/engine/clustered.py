"""Runs on a cluster of several nodes on this machine, some of which join or go while a run works.

clustered FOLDER VIDEOS  plays all cases, each to FOLDER/NAME, and writes FOLDER/said.json

A process of its own: the paces of the runs come into Ray's workers by the environment that it is
started in (see tests/chaos/hook), and pytest's process has a Ray of its own already.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import ray
from ray._private.state import available_resources_per_node
from ray.cluster_utils import Cluster

from pipeline.runner import run
from tests.chaos.cluster import FAST_HEALTH, STORE_BYTES
from tests.engine.test_engines import probe

HEAD_CPUS, NODE_CPUS = 2, 2
PACE_S = 0.3
"""Of decoding a clip, in runs that are to last until something has happened."""


class Nodes:
    """The cluster, and what can be seen of it from outside of a run."""

    def __init__(self) -> None:
        own = {"include_dashboard": False, "object_store_memory": STORE_BYTES}
        head = {"num_cpus": HEAD_CPUS, "_system_config": FAST_HEALTH, **own}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        ray.init(address=self.cluster.address, log_to_driver=False, logging_level="ERROR")
        self.others: list[Any] = []

    def add(self, gpus: int = 0) -> Any:
        node = self.cluster.add_node(
            num_cpus=NODE_CPUS, num_gpus=gpus, object_store_memory=STORE_BYTES
        )
        self.others.append(node)
        return node

    def kill(self, node: Any) -> None:
        """As where the machine goes down: its services and its workers at once."""
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        for process in [raylet, *raylet.children(recursive=True)]:
            process.send_signal(signal.SIGKILL)
        self.others.remove(node)

    @staticmethod
    def works(node: Any) -> bool:
        """Whether any actor of this node decodes."""
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        for process in raylet.children(recursive=True):
            try:
                if "Actor.stream" in " ".join(process.cmdline()):
                    return True
            except psutil.Error:
                continue
        return False

    def demand(self) -> list[dict[str, float]]:
        """The kinds of resources that are waited for, as an autoscaler is told of them."""
        from ray._raylet import GcsClient
        from ray.autoscaler.v2.sdk import get_cluster_resource_state

        state = get_cluster_resource_state(GcsClient(address=self.cluster.address))
        return [dict(one.request.resources_bundle) for one in state.pending_resource_requests]

    def head_in_use(self) -> float:
        """CPUs of the head that somebody holds."""
        name = self.cluster.head_node.node_id
        return HEAD_CPUS - available_resources_per_node().get(name, {}).get("CPU", 0.0)


class Watch:
    """Looks at a run from a thread while it goes on.

    Attributes:
        stats: the run's figures, once it has begun.
        head: the most CPUs of the head that were in use.
        said: what it said it waited for.
    """

    def __init__(self, nodes: Nodes) -> None:
        self.stats: Any = None
        self.head, self.said = 0.0, set[str]()
        self._nodes = nodes

    @contextmanager
    def watching(self, stats: Any) -> Iterator[None]:
        self.stats = stats
        stop = threading.Event()

        def look() -> None:
            while not stop.wait(0.1):
                self.head = max(self.head, self._nodes.head_in_use())
                self.said.add(stats.waiting_for)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


class Cases:
    """Played in their order: the nodes of one are there for the next."""

    def __init__(self, folder: Path, videos: Path) -> None:
        self._folder, self._videos = folder, videos
        self._nodes = Nodes()
        self.said: dict[str, Any] = {}

    def the_head_alone(self) -> None:
        left: dict[str, bool] = {}

        def join(stats: Any) -> None:
            _until(lambda: stats.clips > 4)
            node = self._nodes.add()
            _until(lambda: self._nodes.works(node) and self._nodes.head_in_use() == 0)
            left["head"] = self._nodes.works(node) and self._nodes.head_in_use() == 0

        self._play("alone", join, pace_s=PACE_S)
        self.said["alone"] |= {"left": left["head"]}

    def two_nodes(self) -> None:
        self._play("two", placement="split")

    def a_node_joins(self) -> None:
        took: dict[str, float] = {}

        def join(stats: Any) -> None:
            _until(lambda: stats.clips > 4)
            node = self._nodes.add()
            began = time.monotonic()
            _until(lambda: self._nodes.works(node), 60)
            took["s"] = time.monotonic() - began

        self._play("joins", join, pace_s=PACE_S)
        self.said["joins"]["took_s"] = took["s"]

    def a_node_dies(self) -> None:
        def die(stats: Any) -> None:
            _until(lambda: self._nodes.works(self._nodes.others[0]) and stats.clips > 10)
            self._nodes.kill(self._nodes.others[0])

        # One try: a death that is charged to a shard shows as a failure.
        self._play("dies", die, pace_s=PACE_S, placement="split", attempts=1)

    def four_nodes(self) -> None:
        self._nodes.add()
        self._nodes.add()
        self._play("four", placement="split", workers=5, analyzers=3)

    def gpus_come_later(self) -> None:
        gone = self._nodes.others.pop()
        self._nodes.cluster.remove_node(gone)

        demand: list[dict[str, float]] = []

        def join(stats: Any) -> None:
            _until(lambda: "GPU" in stats.waiting_for)
            demand.extend(self._nodes.demand())
            self._nodes.add(gpus=2)

        self._play("gpus", join, device="cuda", min_analyzers=2)
        self.said["gpus"]["demand"] = demand

    def _play(
        self,
        name: str,
        act: Callable[[Any], None] | None = None,
        pace_s: float = 0.0,
        **engine: Any,
    ) -> None:
        output = self._folder / name
        faults = Path(f"{output}.faults")
        faults.mkdir()
        (faults / "faults.json").write_text(json.dumps({"pace_s": pace_s}))
        watch = Watch(self._nodes)
        config, inputs = probe(engine=engine), [str(self._videos)]
        with ThreadPoolExecutor(1) as pool:
            # Nodes can be started by the main thread only.
            going = pool.submit(run, config, inputs, output, engine="ray", progress=watch)
            _until(lambda: watch.stats is not None or going.done())
            if act is not None and not going.done():
                act(watch.stats)
            (faults / "hurry").touch()
            summary = going.result()
        said = {"head": watch.head, "waited_for": sorted(watch.said)}
        self.said[name] = summary.as_dict() | said

    def play(self) -> None:
        self.the_head_alone()
        self.two_nodes()
        self.a_node_joins()
        self.a_node_dies()
        self.four_nodes()
        self.gpus_come_later()
        (self._folder / "said.json").write_text(json.dumps(self.said))
        ray.shutdown()
        self._nodes.cluster.shutdown()


def _until(what: Callable[[], bool], seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end:
        time.sleep(0.02)


if __name__ == "__main__":
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    Cases(Path(sys.argv[1]), Path(sys.argv[2])).play()
