"""Whether a cluster is fit for a run: `frameledger preflight`.

A process on every node is asked for its versions, clock, disks, GPUs, models, and whether it
reaches input and output (`node`); what they say is judged here and there (`checks`), and is a
row each (`show`).
"""

from __future__ import annotations

import glob
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from pipeline.errors import FrameledgerError, UsageError
from pipeline.preflight import checks
from pipeline.preflight.checks import Check

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.engine.scouts import Node, Scouts

SAMPLE = 8
"""Videos that every node is asked to look at: the first that are found."""
REACH_S = 20.0
"""For a node to say whether it reaches input and output. A store that is away is tried longer."""
MODELS_S = 120.0
"""For a node to read the weights as bytes."""
GPU_WAIT_S = 10.0
"""For the GPUs of a node to be free."""


def preflight(
    address: str,
    config: Config | None = None,
    inputs: tuple[str, ...] = (),
    output: str = "",
    free_disk_bytes: int = 0,
) -> list[Check]:
    """Look at the cluster at `address` as a run with these arguments would use it.

    Args:
        config: None leaves the models out.
        inputs: as those of a run; the configuration's own where none are given.
        output: "" leaves it out.
        free_disk_bytes: wanted on every node.

    Returns the rows in the order of the table. A file is written to `output` for the time that
    it takes. Raises UsageError where no Ray is to be had at `address`.
    """
    from pipeline.engine.scouts import scouts
    from pipeline.engine.tokens import probe_gcs

    chosen = inputs or (config.inputs if config is not None else ())
    with scouts(address) as cluster:
        rows, facts = _nodes(cluster)
        api = next(iter(cluster.ask("ask_job_api", each=_on_head(cluster)).values()), None)
        rows += checks.check_authentication(
            probe_gcs(cluster.gcs_address), cluster.dashboard, _said(api)
        )
        rows.append(_gpus(cluster, config))
        if config is not None:
            rows.append(_models(cluster, config))
        if chosen:
            rows.append(_input(cluster, chosen, config))
        if output:
            rows.append(_output(cluster, output))
        rows += _room(cluster, facts, config, free_disk_bytes)
        trips = cluster.clocks(list(facts))
        offsets = {node.name: checks.clock_offset(trip) for node, trip in trips.items() if trip}
        rows.append(checks.check_clocks(offsets))
    return rows


def check_nodes(address: str) -> list[Check]:
    """The first rows alone: that every node answers, and with which versions."""
    from pipeline.engine.scouts import scouts

    with scouts(address) as cluster:
        return _nodes(cluster)[0]


def _nodes(cluster: Scouts) -> tuple[list[Check], dict[Node, dict[str, Any]]]:
    from pipeline.preflight.node import facts as facts_here

    answers = cluster.ask("facts", each=lambda node: (node.store_socket,))
    silent = {n.name: a.reason for n, a in answers.items() if not isinstance(a, dict)}
    facts = {node: answer for node, answer in answers.items() if isinstance(answer, dict)}
    cpus, gpus = (sum(getattr(n, kind) for n in cluster.nodes) for kind in ("cpus", "gpus"))
    rows = [checks.check_answering(silent, len(answers), f"{cpus:g} CPUs, {gpus:g} GPUs")]
    by_name = {node.name: said for node, said in facts.items()}
    return rows + checks.check_versions(facts_here(""), by_name), facts


def _gpus(cluster: Scouts, config: Config | None) -> Check:
    from pipeline.engine.scouts import NoAnswer

    offered = {node.name: int(node.gpus) for node in cluster.nodes if node.gpus >= 1}
    seen = cluster.gpus(GPU_WAIT_S) if offered else {}
    names = {n.name: None if isinstance(a, NoAnswer) else a for n, a in seen.items()}
    return checks.check_gpus(offered, names, config is not None and config.engine.device == "cuda")


def _models(cluster: Scouts, config: Config) -> Check:
    from pipeline.preflight.node import fingerprints

    text = config.model_dump_json()
    here = fingerprints(text)
    if isinstance(here, str):
        return checks.check_models(here, {})
    return checks.check_models(here, _by_name(cluster.ask("fingerprints", text, seconds=MODELS_S)))


def _input(cluster: Scouts, inputs: tuple[str, ...], config: Config | None) -> Check:
    """The first videos that are found here, looked at from every node."""
    from pipeline.records import Failure
    from pipeline.sources.discover import Discovery, check_inputs, discover

    remedy = "mount it at the same path on every node, or name an object store"
    try:
        check_inputs(inputs)
        discovery = Discovery(config.links) if config is not None else Discovery()
        found = list(islice(discover(inputs, discovery), SAMPLE))
    except (FrameledgerError, OSError) as error:
        return Check("input", "failed", str(error), remedy)
    if not found:
        return Check("input", "failed", f"no videos in {', '.join(inputs)}", "name others")
    for item in found:
        if isinstance(item, Failure):
            return Check("input", "failed", f"{item.uri}: {item.reason}", remedy)
    sample = [(item.uri, item.stamp) for item in found]
    problems = _by_name(cluster.ask("see_inputs", sample, seconds=REACH_S))
    good = f"{len(found)} videos looked at, the same from every node"
    return checks.check_place("input", good, problems, remedy)


def _output(cluster: Scouts, output: str) -> Check:
    """A file written here has to be seen from every node, and one of each node from here."""
    from pipeline.storage.uris import is_remote

    remedy = "a folder that every node shares and may write, or an object store"
    remote = is_remote(output)
    root = output if remote else os.path.abspath(os.path.expanduser(output))
    try:
        with (_remote_probe if remote else _local_probe)(root) as (theirs, content, seen):
            answers = cluster.ask(
                *("see_output", theirs, content),
                seconds=REACH_S,
                each=lambda node: (f"{theirs}-{node.node_id}",),
            )
            problems = {}
            for node, problem in answers.items():
                problems[node.name] = _said(problem) or seen(f"{theirs}-{node.node_id}")
    except (FrameledgerError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return Check("output", "failed", f"{root}: {why}", remedy)
    return checks.check_place("output", f"{root}: written and read by every node", problems, remedy)


Probe = tuple[str, str, Callable[[str], str]]
"""A file that was written, what is in it, and whether one that a node wrote is seen."""


@contextmanager
def _local_probe(root: str) -> Iterator[Probe]:
    """In a folder, which is made for it where there is none yet, and taken away again."""
    if os.path.lexists(root) and not os.path.isdir(root):
        raise UsageError("is a file; name a folder")
    made = root
    while made and not os.path.exists(os.path.dirname(made)):
        made = os.path.dirname(made)
    existed = os.path.isdir(root)
    os.makedirs(root, exist_ok=True)
    path, content = os.path.join(root, f".preflight-{secrets.token_hex(6)}"), secrets.token_hex(16)
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(content)
        yield (
            path,
            content,
            lambda other: (
                ""
                if os.path.exists(other)
                else "is another folder here: what it writes is not seen"
            ),
        )
    finally:
        for left in glob.glob(f"{glob.escape(path)}*"):
            os.unlink(left)
        folder = root
        with suppress(OSError):  # Somebody may have begun to use it.
            while not existed and folder.startswith(made):
                os.rmdir(folder)
                folder = os.path.dirname(folder)


@contextmanager
def _remote_probe(root: str) -> Iterator[Probe]:
    """Also whether the store keeps its promise that of two who make an object one wins."""
    from pipeline.storage import objects
    from pipeline.storage.uris import join

    uri, content = join(root, f".preflight-{secrets.token_hex(6)}"), secrets.token_hex(16)

    def seen(other: str) -> str:
        try:
            return "" if objects.read(other).decode() == content else "wrote other bytes"
        except OSError as error:
            return str(error)

    try:
        objects.write_new(uri, content.encode())
        if objects.write_new(uri, content.encode()):
            raise UsageError("the store has no conditional writes, which commits need")
        yield uri, content, seen
    finally:
        with suppress(OSError):
            left = [stat.uri for stat in objects.listed(root) if stat.uri.startswith(uri)]
            objects.remove(left)


def _room(
    cluster: Scouts, facts: dict[Node, dict[str, Any]], config: Config | None, free_disk_bytes: int
) -> list[Check]:
    from pipeline.engine.sizing import STORE_HEADROOM_BYTES

    pixels = config.memory.in_flight if config is not None else "auto"
    # What is not said is made to fit.
    wanted = pixels + STORE_HEADROOM_BYTES if isinstance(pixels, int) else 0
    stores = {node.name: node.object_store_bytes for node in facts}
    shared = {node.name: said["shared_memory"] for node, said in facts.items()}
    disks = {node.name: tuple(said["disk"]) for node, said in facts.items() if said["disk"]}
    full = {node.name: float(said["disk_full"]) for node, said in facts.items()}
    free = cluster.free_store_bytes / max(1, sum(node.object_store_bytes for node in cluster.nodes))
    return [
        checks.check_disks(disks, full, free_disk_bytes),
        checks.check_object_store(stores, shared, free, STORE_HEADROOM_BYTES, wanted),
    ]


def _on_head(cluster: Scouts) -> Callable[[Node], tuple[str] | None]:
    """The dashboard's address, for the head alone: it may listen on loopback there."""
    url = f"http://{cluster.dashboard}"
    return lambda node: (url,) if node.is_head and cluster.dashboard else None


def _by_name(answers: dict[Node, Any]) -> dict[str, Any]:
    return {node.name: _said(answer) for node, answer in answers.items()}


def _said(answer: Any) -> Any:
    """The answer, or in words why there is none."""
    from pipeline.engine.scouts import NoAnswer

    return answer.reason if isinstance(answer, NoAnswer) else answer
