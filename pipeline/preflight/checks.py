"""Judgements on what a cluster's nodes have said: plain values in, rows of the table out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["ok", "warning", "failed"]
Name = str
"""Of a node, as people know it."""

CLOCK_WARNING_S = 2.0
"""Above it, times of different nodes in tables and logs are hard to put together."""
CLOCK_FAILED_S = 30.0
"""Half of what a lease of a run outlives without a touch (`ledger.alive.EXPIRES_S`); object stores
refuse requests whose time is 15 minutes off."""
DISK_WARNING_BYTES = 10 * 2**30
SHOWN_NODES = 3


@dataclass(frozen=True)
class Check:
    """A row: what was looked at, what was found, and what to do where that is not fine."""

    name: str
    state: State
    found: str
    remedy: str = ""


def check_answering(silent: Mapping[Name, str], count: int, what: str) -> Check:
    """`silent`: nodes without an answer, and why. `what`: the cluster in words."""
    if silent:
        return Check(
            "nodes",
            "failed",
            f"no process answers on {_listed(silent)}",
            "look into these nodes' logs (worker-*.err below Ray's session folder)",
        )
    return Check("nodes", "ok", f"{count} alive: {what}")


def check_versions(here: Mapping[str, Any], nodes: Mapping[Name, Mapping[str, Any]]) -> list[Check]:
    """Ray, Python and frameledger of every node against those of this process.

    Args:
        here: `facts` of this process; a node's are like it.
    """
    checks = []
    for name in ("ray", "python", "frameledger"):
        other = {node: _version(name, said) for node, said in nodes.items()}
        ours = _version(name, here)
        differing = {node: said for node, said in other.items() if said != ours}
        if not differing:
            checks.append(Check(name, "ok", f"{ours} on every node"))
            continue
        # Ray takes nodes with another patch of the same Python.
        minor = name == "python" and all(
            _minor(said) == _minor(ours) for said in differing.values()
        )
        checks.append(
            Check(
                name,
                "warning" if minor else "failed",
                f"{ours} here; {_listed(differing)}",
                "the same image or environment on every node"
                + (", and the same code" if name == "frameledger" else ""),
            )
        )
    return checks


def _version(name: str, said: Mapping[str, Any]) -> str:
    if not said[name]:
        return f"none ({said.get(f'{name}_problem', '?')}; {said['executable']})"
    code = said.get(f"{name}_code")
    return f"{said[name]} (code {code})" if code else str(said[name])


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def check_authentication(gcs: str, dashboard: str, answer: int | str | None) -> list[Check]:
    """Whether strangers are refused.

    Args:
        gcs: what the control service says to a caller without a token (`tokens.Welcome`).
        dashboard: `host:port` on the head, "" for none.
        answer: status of the job API for a caller without a token, or why there is none.
    """
    on = "start every node with RAY_AUTH_MODE=token and one token (RAY_AUTH_TOKEN_PATH, mode 0600)"
    checks = []
    if gcs == "refused":
        checks.append(Check("authentication", "ok", "Ray asks every caller for the token"))
    elif gcs == "open":
        checks.append(
            Check(
                "authentication",
                "failed",
                "off: whoever reaches Ray's port runs code on every node",
                on,
            )
        )
    else:
        checks.append(Check("authentication", "warning", "Ray's port gave no clear answer", on))
    host = dashboard.rpartition(":")[0]
    if not dashboard:
        checks.append(Check("job API", "ok", "there is none (no dashboard)"))
    elif answer in (401, 403):
        if host in ("127.0.0.1", "localhost", "::1", "[::1]"):
            checks.append(Check("job API", "ok", f"refuses callers without the token ({answer})"))
        else:
            checks.append(
                Check(
                    "job API",
                    "warning",
                    f"asks for the token, which travels unencrypted to {dashboard}",
                    "--dashboard-host=127.0.0.1 on the head, and an SSH tunnel to it",
                )
            )
    elif answer == 200:
        checks.append(
            Check("job API", "failed", f"{dashboard} takes jobs from callers without a token", on)
        )
    else:
        checks.append(
            Check("job API", "warning", f"{dashboard}: {answer}", "see dashboard.log on the head")
        )
    return checks


def check_gpus(offered: Mapping[Name, int], seen: Mapping[Name, Any], cuda_wanted: bool) -> Check:
    """GPUs that Ray offers against those that torch can use.

    Args:
        offered: whole GPUs by node, nodes without any left out.
        seen: a list of names by node; a text for what torch raised; None where others use them.
        cuda_wanted: the configuration says `engine.device: cuda`.
    """
    if not offered:
        if cuda_wanted:
            todo = "set engine.device: auto, or wait for GPU nodes if the cluster scales by itself"
            return Check("GPUs", "warning", "none yet; engine.device is cuda", todo)
        return Check("GPUs", "ok", "none are offered")
    wrong = {}
    for node, count in offered.items():
        names = seen[node]
        if isinstance(names, str):
            wrong[node] = f"torch: {names}"
        elif names is not None and len(names) != count:
            wrong[node] = f"offers {count}, torch sees {len(names)}"
    if wrong:
        return Check(
            "GPUs",
            "failed",
            _listed(wrong),
            "nvidia-smi there; a torch built for that driver; --num-gpus as many as there are",
        )
    busy = {node: f"{count} in use" for node, count in offered.items() if seen[node] is None}
    if busy:
        return Check(
            "GPUs", "warning", f"not looked at: {_listed(busy)}", "ask again when they are free"
        )
    kinds = sorted({name for names in seen.values() for name in names})
    return Check("GPUs", "ok", f"{sum(offered.values())} seen by torch: {', '.join(kinds)}")


def check_models(here: Mapping[str, str] | str, nodes: Mapping[Name, Any]) -> Check:
    """Whether every node would run the same models.

    Args:
        here: fingerprint by analysis, or why there is none; the same for each node.
    """
    if isinstance(here, str):
        return Check("models", "failed", here, "give a folder or name that every node can load")
    wrong = {}
    for node, said in nodes.items():
        if isinstance(said, str):
            wrong[node] = said
        elif said != here:
            names = [name for name in here if said.get(name) != here[name]]
            wrong[node] = f"other weights or settings of {', '.join(names)}"
    if wrong:
        return Check(
            "models", "failed", _listed(wrong), "the same files at the same path on every node"
        )
    names = [name for name in here if name != "frames"]
    return Check("models", "ok", f"{', '.join(names) or 'none'}: the same on every node")


def check_place(name: str, good: str, problems: Mapping[Name, str], remedy: str) -> Check:
    """A row for what every node has to reach; `problems` by node, "" for none."""
    wrong = {node: problem for node, problem in problems.items() if problem}
    if not wrong:
        return Check(name, "ok", good)
    if len(wrong) == len(problems) and len(set(wrong.values())) == 1:
        wrong = {"every node": next(iter(wrong.values()))}
    return Check(name, "failed", _listed(wrong), remedy)


def check_disks(
    free: Mapping[Name, tuple[int, int]], full: Mapping[Name, float], wanted_bytes: int = 0
) -> Check:
    """Disks of Ray's own files, logs and what it spills.

    Args:
        free: bytes that are free, and all bytes.
        full: used share of a node's disk above which Ray refuses to spill there.
        wanted_bytes: free space that the user asks for.
    """
    states: dict[Name, State] = {}
    for node, (there, total) in free.items():
        if there < max((1 - full[node]) * total, wanted_bytes):
            states[node] = "failed"
        elif there < DISK_WARNING_BYTES:
            states[node] = "warning"
    state: State = "ok"
    if states:
        state = "failed" if "failed" in states.values() else "warning"
        low = {
            node: f"{_gib(free[node][0])} of {_gib(free[node][1])} free"
            for node in states
            if states[node] == state
        }
        return Check("disk", state, _listed(low), "room below Ray's --temp-dir, or another one")
    least = min((there for there, _ in free.values()), default=0)
    return Check("disk", "ok", f"{_gib(least)} free or more")


def check_object_store(
    stores: Mapping[Name, int],
    shared_memory: Mapping[Name, tuple[int, int] | None],
    free_share: float,
    least_bytes: int,
    wanted_bytes: int,
) -> Check:
    """Memory of Ray's object stores.

    Args:
        stores: bytes by node.
        shared_memory: free and all bytes of /dev/shm by node, None where there is none.
        free_share: of all stores together, how much nothing holds now.
        least_bytes: what a run needs beside pixels.
        wanted_bytes: with the pixels in flight that the configuration allows.
    """
    remedy = "a larger --object-store-memory (in a container: --shm-size), or memory.in_flight less"
    small = {node: _mib(size) for node, size in stores.items() if size < least_bytes}
    if small:
        return Check(
            "object store", "failed", f"{_listed(small)}; {_mib(least_bytes)} are needed", remedy
        )
    slow = {}
    for node, size in stores.items():
        space = shared_memory[node]
        if space is not None and space[1] < size:
            slow[node] = f"{_mib(size)} on disk: /dev/shm has {_mib(space[1])}"
        elif size < wanted_bytes:
            slow[node] = f"{_mib(size)}, {_mib(wanted_bytes)} may be in flight: the rest is spilled"
    if slow:
        return Check("object store", "warning", _listed(slow), remedy)
    if free_share < 0.5:
        found = f"{free_share:.0%} free: others use the cluster"
        return Check("object store", "warning", found, "wait for them, or expect spilling")
    least = min(stores.values(), default=0)
    return Check("object store", "ok", f"{_mib(least)} or more a node, {free_share:.0%} free")


def clock_offset(trips: list[tuple[float, float, float]]) -> tuple[float, float]:
    """How far a clock is ahead of ours, and the error of that, in seconds.

    The quickest of the round trips counts: the other clock was read somewhere in it (Cristian,
    Probabilistic clock synchronization, 1989).

    Args:
        trips: when it was asked and when the answer came by our clock, and between them its own.
    """
    asked, there, came = min(trips, key=lambda trip: trip[2] - trip[0])
    return there - (asked + came) / 2, (came - asked) / 2


def check_clocks(offsets: Mapping[Name, tuple[float, float]]) -> Check:
    """`offsets`: seconds ahead of this process' clock, and their error, by node."""
    off = {
        n: ahead for n, (ahead, error) in offsets.items() if abs(ahead) - error > CLOCK_WARNING_S
    }
    if not off:
        most = max((abs(ahead) + error for ahead, error in offsets.values()), default=0.0)
        return Check("clock", "ok", f"within {max(1, round(most * 1000)):,} ms")
    words = {
        node: f"{abs(ahead):,.1f} s {'ahead' if ahead > 0 else 'behind'}"
        for node, ahead in off.items()
    }
    bad = any(abs(ahead) > CLOCK_FAILED_S for ahead in off.values())
    return Check(
        "clock", "failed" if bad else "warning", _listed(words), "a time service (chrony) there"
    )


def _listed(nodes: Mapping[Name, str]) -> str:
    words = [f"{node}: {what}" for node, what in list(nodes.items())[:SHOWN_NODES]]
    more = len(nodes) - SHOWN_NODES
    return "; ".join(words) + (f"; and {more} more" if more > 0 else "")


def _gib(count: float) -> str:
    return f"{count / 2**30:,.1f} GiB"


def _mib(count: float) -> str:
    return f"{count / 2**20:,.0f} MiB"
