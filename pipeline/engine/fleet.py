"""The run's actors on the cluster's nodes: made where there is room, missed when a node goes.

Every few seconds the cluster is looked at anew. Each actor is bound to its node; what there is no
room for is wished for, by a task that does nothing: an autoscaler sees that it waits, and when it
has run, there is room. Unlike a request to the autoscaler it ends with this run, however that ends.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.engine import nodes
from pipeline.engine.actors import AnalyzerActor, DecoderActor, FusedActor
from pipeline.engine.job import Job
from pipeline.engine.lanes import Lane, Member, Models
from pipeline.engine.placement import place, usable
from pipeline.engine.roster import Roster
from pipeline.engine.sizing import Kind, Need, Node, Sizing

LOOK_S = 2.0
ROOM_S = 300.0
"""An actor that its node has had no room for in so long is made elsewhere."""
TOGETHER_S = 10.0
"""After the first is ready, the others are waited for so long: they load the same models."""
SAY_AFTER_S = 5.0
AT_ONCE_ON_GPU = 2
"""Clips in an analyzer's hands: one is computed while the next is copied to the GPU."""
FOREVER = {"max_restarts": -1, "max_task_retries": 0}
"""Actors come back by themselves however often they die; how often a piece of work may fail is the
driver's to count."""


@ray.remote(max_retries=-1)
def _room() -> None:
    """A wish: there is room for what it holds when it has run."""


@dataclass
class Fleet:
    """Makes and dismisses the members of `roster`."""

    job: Job
    sizing: Sizing
    roster: Roster
    nodes: dict[str, Node] = field(default_factory=dict)
    """Those alive at the last look."""
    _wishes: dict[Kind, list[Any]] = field(default_factory=dict)
    _looked_at: float = 0.0

    # -- what is there ----------------------------------------------------------------

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self._looked_at > LOOK_S

    def look(self) -> list[Member]:
        """See what nodes there are. Returns members that will not come back, now dismissed."""
        self._looked_at = time.monotonic()
        self.nodes = {node.node_id: node for node in nodes.look()}
        since = {start.member: start.since for start in self.roster.absent.values()}
        gone = []
        for member in [*self.roster.members]:
            unplaced = not member.process and time.monotonic() - since.get(member, time.monotonic())
            retired = member.retiring and member.idle
            if member.gone or member.node not in self.nodes or retired or unplaced > ROOM_S:
                self._dismiss(member)
                gone.append(member)
        return gone

    def look_soon(self) -> None:
        """Something tells that a node has gone."""
        self._looked_at = 0.0

    def _dismiss(self, member: Member) -> None:
        self.roster.drop(member)
        with suppress(RayError, ValueError):
            ray.kill(member.actor)

    # -- what is to be there ----------------------------------------------------------

    def hire(self, more: bool = True) -> None:
        """Make actors where there is room, and wish for room where there is not.

        Args:
            more: there is work for them.
        """
        free = self._free() if more else []
        held = Counter((member.node, _kind(member)) for member in self.roster.members)
        new = place(self.sizing, free, held, self.job.config.engine.head)
        held.update((node.node_id, need.kind) for need, node in new)
        for need, node in new:
            # torch threads of each process of the node that runs models on its CPUs.
            busy = held[node.node_id, need.kind]
            self._make(need, node, threads=max(1, int(node.cpus) // busy))
        self._wish(free)
        self._retire()

    @property
    def analyzing(self) -> int:
        """Actors with models, there or asked for."""
        need = self.sizing.needs[0]
        return max(need.asked, self._count(need.kind))

    def _count(self, kind: Kind) -> int:
        return sum(_kind(member) == kind for member in self.roster.members)

    def _free(self) -> list[Node]:
        """The nodes, without what actors will hold that are being started."""
        takes = {need.kind: need for need in self.sizing.needs}
        free = {name: n for name, n in self.nodes.items() if name not in self.roster.given_up}
        for member in self.roster.members:
            if not member.process and member.node in free:
                node, need = free[member.node], takes[_kind(member)]
                free[member.node] = replace(
                    node,
                    free_cpus=node.free_cpus - need.cpus,
                    free_gpus=node.free_gpus - need.gpus,
                )
        return [*free.values()]

    def _make(self, need: Need, node: Node, threads: int) -> None:
        fused = self.sizing.placement == "fused"
        on_gpu = need.gpus > 0
        kind: Any = DecoderActor
        if need.kind == "analyzer":
            kind = AnalyzerActor
        elif fused:
            kind = FusedActor
        actor = kind.options(
            num_cpus=need.cpus,
            num_gpus=need.gpus,
            max_concurrency=AT_ONCE_ON_GPU if on_gpu and need.kind == "analyzer" else 1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False),
            **FOREVER,
        ).remote(self.job, self.sizing.device, threads)
        member = Models if need.kind == "analyzer" else Lane
        self.roster.add(member(actor, node.node_id))

    def _wish(self, free: Sequence[Node]) -> None:
        head = self.job.config.engine.head
        for need in self.sizing.needs:
            among = usable(free, need, head)
            wishes = self._wishes.get(need.kind, [])
            if wishes:
                _, wishes = ray.wait(wishes, num_returns=len(wishes), timeout=0)
            short = need.asked - self._count(need.kind) if free else 0
            roomy = any(_has_room(node, need) for node in among)
            if not (need.cpus or need.gpus) or roomy:
                short = 0
            without = [node for node in free if node.head and node not in among]
            for _ in range(len(wishes), short):
                wishes.append(_wished(need, without))
            for ref in wishes[max(0, short) :]:
                ray.cancel(ref)
            self._wishes[need.kind] = wishes[: max(0, short)]

    def _retire(self) -> None:
        """Whoever is on the head while others could be elsewhere ends after the work at hand."""
        for need in self.sizing.needs:
            allowed = usable([*self.nodes.values()], need, self.job.config.engine.head)
            names = {node.node_id for node in allowed}
            here = [member for member in self.roster.members if _kind(member) == need.kind]
            others = any(member.present and member.node in names for member in here)
            for member in here:
                member.retiring = others and member.node not in names

    # -- waiting ----------------------------------------------------------------------

    def await_enough(self, say: Callable[[str], None], look: Callable[[], None]) -> None:
        """Return when there is a worker, and where there must be one an analyzer.

        Args:
            say: called with what is waited for; there may be room later, when another job ends or
                a node joins.
            look: called every second or more often; the watchdog's.
        """
        started = time.monotonic()
        enough_at = None
        while True:
            if enough_at is None and self.roster.enough:
                enough_at = time.monotonic()
            waited = enough_at is not None and time.monotonic() - enough_at > TOGETHER_S
            if enough_at is not None and (waited or not self.roster.absent):
                break
            if self.roster.absent:
                ready, _ = ray.wait([*self.roster.absent], num_returns=1, timeout=1.0)
                for ref in ready:
                    self.roster.answered(ref)
            else:
                time.sleep(0.5)
            look()
            if self.is_due:
                self.look()
                self.hire()
            if enough_at is None and time.monotonic() - started > SAY_AFTER_S:
                say(self.waits_for())
        say("")

    def waits_for(self) -> str:
        """What keeps work from going on, in words."""
        starts = self.roster.absent.values()
        lacking = [need for need in self.sizing.needs if not self._count(need.kind)]
        if not lacking and all(start.loading for start in starts):
            return "models are loading"
        asked = ", ".join(map(_asked, lacking))
        every = self.nodes.values()
        cpus = f"{sum(n.free_cpus for n in every):g} of {sum(n.cpus for n in every):g} CPU"
        gpus = f"{sum(n.free_gpus for n in every):g} of {sum(n.gpus for n in every):g} GPU"
        what = f"waiting for room on the cluster: {asked}" if asked else "workers are starting"
        return f"{what} (free: {cpus}, {gpus}, on {len(self.nodes)} nodes)"

    def close(self) -> None:
        """Let all actors go."""
        for ref in [ref for wishes in self._wishes.values() for ref in wishes]:
            ray.cancel(ref)
        self._wishes.clear()
        for member in [*self.roster.members]:
            self._dismiss(member)


def _kind(member: Member) -> Kind:
    return "analyzer" if isinstance(member, Models) else "worker"


def _has_room(node: Node, need: Need) -> bool:
    return node.free_cpus >= need.cpus and node.free_gpus >= need.gpus


def _wished(need: Need, without: Sequence[Node]) -> Any:
    selector = {"ray.io/node-id": f"!{without[0].node_id}"} if without else None
    options: dict[str, Any] = {"label_selector": selector} if selector else {}
    return _room.options(num_cpus=need.cpus, num_gpus=need.gpus, **options).remote()


def _asked(need: Need) -> str:
    takes = [(need.cpus, "CPU"), (need.gpus, "GPU")]
    each = " and ".join(f"{count:g} {name}" for count, name in takes if count)
    return f"{need.asked} {need.kind}{'s' if need.asked > 1 else ''} of {each or 'no CPU'} each"
