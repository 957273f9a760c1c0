"""What the cluster has at this moment, asked of Ray."""

from __future__ import annotations

import psutil
import ray
from ray._private.state import available_resources_per_node  # Ray has no public word for it.

from pipeline.engine.sizing import Node

_HEAD = "node:__internal_head__"


def look() -> list[Node]:
    """The nodes that are alive."""
    here = driver_node()
    free = available_resources_per_node()
    nodes = []
    for one in ray.nodes():
        if not one["Alive"]:
            continue
        node_id, has = one["NodeID"], one["Resources"]
        # One that has only just joined has said nothing yet of what is free.
        left = free.get(node_id, {})
        store = has.get("object_store_memory", 0.0)
        memory = psutil.virtual_memory().total if node_id == here else has.get("memory", 0) + store
        nodes.append(
            Node(
                node_id,
                head=_HEAD in has,
                cpus=has.get("CPU", 0.0),
                gpus=has.get("GPU", 0.0),
                memory_bytes=int(memory),
                free_cpus=left.get("CPU", 0.0),
                free_gpus=left.get("GPU", 0.0),
                store_bytes=int(store),
            )
        )
    return nodes


def driver_node() -> str:
    """The node that this process talks to the cluster by."""
    return str(ray.get_runtime_context().get_node_id())


def may_grow() -> bool:
    """Whether nodes may join: not where this very process has started Ray, on one machine."""
    from ray._private.worker import _global_node

    return _global_node is None or not _global_node.is_head()
