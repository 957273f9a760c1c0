"""Which node gets which actors: arithmetic on what is free, no processes.

Actors are placed one by one, each on the node that has most room for it, and only where there is
room: what others hold on the cluster is left to them. Later looks at the cluster place the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.engine.sizing import Kind, Need, Node, Sizing

_PART = 1e-6
"""Parts of a GPU are added up as binary fractions."""


def usable(nodes: Sequence[Node], need: Need, head: Literal["auto", "use", "leave"]) -> list[Node]:
    """Nodes that may hold such actors: the head only where it is asked for, or has what no other
    node has."""
    able = [node for node in nodes if _could_hold(node, need)]
    others = [node for node in able if not node.head]
    return able if head == "use" or (head == "auto" and not others) else others


def _could_hold(node: Node, need: Need) -> bool:
    return node.gpus + _PART >= need.gpus if need.gpus else node.cpus >= 1


@dataclass
class _Room:
    """What is left of a node while actors are placed."""

    node: Node
    cpus: float
    gpus: float
    nbytes: int
    held: Counter[Kind] = field(default_factory=Counter)

    def fits(self, need: Need) -> bool:
        if need.per_node is not None and self.held[need.kind] >= need.per_node:
            return False
        # A count that was given is taken as it is; analyzers go where GPUs are.
        enough = need.kind == "analyzer" or need.count is not None or self.nbytes >= need.nbytes
        return enough and self.cpus >= need.cpus and self.gpus + _PART >= need.gpus

    def take(self, need: Need) -> None:
        self.cpus -= need.cpus
        self.gpus -= need.gpus
        self.nbytes -= need.nbytes
        self.held[need.kind] += 1

    def ease(self, need: Need) -> tuple[float, ...]:
        """The larger, the sooner it gets an actor."""
        free = self.gpus if need.gpus else self.cpus if need.cpus else 0.0
        return free, -float(self.held[need.kind]), self.cpus


def place(
    sizing: Sizing,
    nodes: Sequence[Node],
    held: Mapping[tuple[str, Kind], int],
    head: Literal["auto", "use", "leave"],
) -> list[tuple[Need, Node]]:
    """The actors to be made now, each with its node.

    Args:
        held: actors of this run by node and kind; what they take of CPUs and GPUs is no longer
            free on `nodes`.
    """
    rooms = {}
    for node in nodes:
        room = _Room(node, node.free_cpus, node.free_gpus, sizing.room_bytes(node))
        for need in sizing.needs:
            room.held[need.kind] = held.get((node.node_id, need.kind), 0)
            room.nbytes -= need.nbytes * room.held[need.kind]
        rooms[node.node_id] = room
    new = []
    for need in sizing.needs:
        # Whoever is on the head without need will leave it: it counts as gone.
        names = [node.node_id for node in usable(nodes, need, head)]
        among = [rooms[name] for name in names]
        there = sum(room.held[need.kind] for room in among)
        while need.ceiling is None or there < need.ceiling:
            fitting = [room for room in among if room.fits(need)]
            if not fitting:
                break
            best = max(fitting, key=lambda room: room.ease(need))
            best.take(need)
            new.append((need, best.node))
            there += 1
    return new
