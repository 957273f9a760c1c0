"""Questions to every node of a cluster: a small process on each that answers them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.engine.joining import join
from pipeline.preflight import node as node_side

START_S = 30.0
"""For a process on a node to begin."""
ROUND_TRIPS = 7
"""Of which the quickest tells a node's clock best."""


@dataclass(frozen=True)
class Node:
    """A node that is alive, as the cluster knows it."""

    node_id: str
    name: str
    is_head: bool
    cpus: float
    gpus: float
    object_store_bytes: int
    store_socket: str


@dataclass(frozen=True)
class NoAnswer:
    """What came in place of a node's answer."""

    reason: str


@dataclass
class Scouts:
    """The nodes of a cluster, each with a process that answers. Made by `scouts`."""

    gcs_address: str
    dashboard: str
    """`host:port` as the head has it, "" without one."""
    free_store_bytes: float
    """Of all object stores together."""
    actors: dict[Node, Any]

    @property
    def nodes(self) -> list[Node]:
        return list(self.actors)

    def ask(
        self, function: str, *arguments: Any, seconds: float = START_S, each: Any = None
    ) -> dict[Node, Any]:
        """The answer of every node to a function of `preflight.node`, or NoAnswer.

        Args:
            each: called with a node, gives arguments that are its own; None leaves a node out.
        """
        asked = {}
        for node, actor in self.actors.items():
            own = each(node) if each is not None else ()
            if own is not None:
                asked[node] = actor.do.remote(function, *arguments, *own)
        return _answers(asked, seconds)

    def clocks(self, nodes: Iterable[Node]) -> dict[Node, list[tuple[float, float, float]]]:
        """For each: when it was asked, what its clock said, when the answer came."""
        found: dict[Node, list[tuple[float, float, float]]] = {}
        for node in nodes:
            found[node] = []
            for _ in range(ROUND_TRIPS):
                asked = time.time()
                try:
                    there = ray.get(self.actors[node].do.remote("now"), timeout=5)
                except (RayError, TimeoutError):
                    break
                found[node].append((asked, there, time.time()))
        return found

    def gpus(self, seconds: float) -> dict[Node, Any]:
        """What torch sees in a process that holds all GPUs of its node.

        NoAnswer also where others hold one of them for longer than `seconds`.
        """
        held = {}
        for node in self.nodes:
            if node.gpus >= 1:
                held[node] = _start(node, num_gpus=int(node.gpus))
        began = _answers({n: actor.do.remote("now") for n, actor in held.items()}, seconds)
        there = {n: held[n].do.remote("see_gpus") for n in held if isinstance(began[n], float)}
        answers: dict[Node, Any] = began | _answers(there, START_S)
        for actor in held.values():
            ray.kill(actor)
        return answers


@contextmanager
def scouts(address: str) -> Iterator[Scouts]:
    """Connect to a cluster, and have a process on each of its nodes.

    Raises UsageError where no Ray is to be had at `address`.
    """
    context = join(address)
    try:
        ray.cloudpickle.register_pickle_by_value(node_side)
        nodes = _nodes(ray.nodes())
        actors = {node: _start(node) for node in nodes}
        yield Scouts(
            gcs_address=ray.get_runtime_context().gcs_address,
            dashboard=context.dashboard_url or "",
            free_store_bytes=ray.available_resources().get("object_store_memory", 0.0),
            actors=actors,
        )
    finally:
        ray.shutdown()


def _start(node: Node, num_gpus: int = 0) -> Any:
    """A process on a node, which takes no CPU of it."""
    place = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
    actor = ray.remote(node_side.Scout)
    options = actor.options(
        num_cpus=0, num_gpus=num_gpus, max_concurrency=4, scheduling_strategy=place
    )
    return options.remote()


def _answers(asked: dict[Node, Any], seconds: float) -> dict[Node, Any]:
    """What has come in time; one that failed or has not come is a NoAnswer."""
    done, _ = (
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=seconds)
        if asked
        else ([], [])
    )
    answers: dict[Node, Any] = {}
    for node, reference in asked.items():
        if reference not in done:
            answers[node] = NoAnswer(f"no answer in {seconds:g} s")
            continue
        try:
            answers[node] = ray.get(reference)
        except Exception as error:  # Also what a function raised on the node.
            answers[node] = NoAnswer(_reason(error))
    return answers


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]


def _nodes(known: list[dict[str, Any]]) -> list[Node]:
    """Those that are alive, the head first; names are hosts', where those tell nodes apart."""
    alive = [entry for entry in known if entry["Alive"]]
    hosts = [str(entry["NodeManagerHostname"]) for entry in alive]
    found = []
    for entry, host in zip(alive, hosts, strict=True):
        resources = entry["Resources"]
        is_head = "node:__internal_head__" in resources
        name = host if hosts.count(host) == 1 else f"{host}/{entry['NodeID'][:6]}"
        found.append(
            Node(
                node_id=entry["NodeID"],
                name=f"{name} (head)" if is_head else name,
                is_head=is_head,
                cpus=resources.get("CPU", 0.0),
                gpus=resources.get("GPU", 0.0),
                object_store_bytes=int(resources.get("object_store_memory", 0)),
                store_socket=str(entry.get("ObjectStoreSocketName") or ""),
            )
        )
    return sorted(found, key=lambda node: (not node.is_head, node.name))
