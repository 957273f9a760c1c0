"""Which actors can be given work: those that have answered since they last started.

Ray brings dead actors back, and meanwhile refuses their calls at once: the emptiest of all, they
would be handed one piece of work after another.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError

from pipeline.engine.lanes import Lane
from pipeline.engine.ray_errors import get, last_line
from pipeline.errors import RunAborted

STARTS = 3
"""Starts in a row that may fail before the run is given up."""
TOGETHER_S = 10.0
"""After the first is ready, the others are waited for so long: they load the same models."""
SAY_AFTER_S = 5.0


@dataclass(eq=False)
class Models:
    """An analyzer of split placement."""

    actor: Any
    calls: list[Any] = field(default_factory=list)
    """Clips with it, in the order in which it was sent them."""
    present: bool = False
    waited_s: float = 0.0
    """Seconds for which it has worked on the first of them."""
    verdict: str = ""
    """Why the watchdog has killed it, if it has."""

    @property
    def busy(self) -> int:
        return len(self.calls)

    @property
    def on_suspect(self) -> bool:
        """It has a clip of a shard that failed before."""
        return any(call.stream.work.suspect for call in self.calls)

    def leave(self, call: Any) -> None:
        """A call has ended, one way or the other."""
        self.calls.remove(call)
        self.waited_s = 0.0


class Roster:
    """Workers and analyzers, and the answers that absent ones still owe.

    Attributes:
        absent: reference to the answer -> whose it is.
    """

    def __init__(self, lanes: list[Lane], models: list[Models]) -> None:
        self.lanes = lanes
        self.models = models
        self.absent: dict[Any, Lane | Models] = {}
        self._failed: dict[int, int] = {}
        for member in self._members:
            self._call(member)

    @property
    def _members(self) -> list[Lane | Models]:
        return [*self.lanes, *self.models]

    def lost(self, actor_id: str | None) -> None:
        """An actor has died, or cannot be reached."""
        for member in self._members:
            if member.present and id_of(_actor(member)) == actor_id:
                self._call(member)

    def answered(self, ref: Any) -> None:
        """One of `absent` is there. Raises what the user did wrong, or RunAborted, where an actor
        cannot be started at all."""
        member = self.absent.pop(ref)
        try:
            get(ref)
        except RayActorError as error:
            failed = self._failed[id(member)] = self._failed.get(id(member), 0) + 1
            if failed >= STARTS:
                raise RunAborted(f"a worker could not start: {last_line(error)}") from None
            self._call(member)
        else:
            self._failed.pop(id(member), None)
            member.present = True
            if isinstance(member, Models):
                member.verdict = ""

    def await_enough(self, say: Any) -> None:
        """Return when a worker, and where there are any an analyzer, can be given work.

        Args:
            say: called with a line where Ray has no place for them; it may find one later, when
                another job ends or a node joins.
        """
        started = time.monotonic()
        enough_at = None
        while self.absent:
            if enough_at is None and self._enough():
                enough_at = time.monotonic()
            if enough_at is not None and time.monotonic() - enough_at > TOGETHER_S:
                break
            ready, _ = ray.wait([*self.absent], num_returns=1, timeout=1.0)
            for ref in ready:
                self.answered(ref)
            if enough_at is None and time.monotonic() - started > SAY_AFTER_S:
                say(_free())
        say("")

    def _enough(self) -> bool:
        there = any(lane.present for lane in self.lanes)
        return there and (not self.models or any(member.present for member in self.models))

    def _call(self, member: Lane | Models) -> None:
        member.present = False
        self.absent[_actor(member).ready.remote()] = member


def id_of(actor: Any) -> str:
    """As the exceptions of dead actors name it."""
    return str(actor._actor_id.hex())


def _actor(member: Lane | Models) -> Any:
    return member.worker if isinstance(member, Lane) else member.actor


def _free() -> str:
    free, total = ray.available_resources(), ray.cluster_resources()
    counts = ", ".join(
        f"{free.get(name, 0):g} of {total.get(name, 0):g} {name}" for name in ("CPU", "GPU")
    )
    return f"models are loading, or wait for room on the cluster (free: {counts})"
