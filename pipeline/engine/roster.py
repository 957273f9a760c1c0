"""Which actors can be given work: those that have loaded their models since they last started.

Ray brings dead actors back, and meanwhile refuses their calls at once: the emptiest of all, they
would be handed one piece of work after another.

waiting for room   process() has not been answered: the cluster may be full for hours
loading            start() has not: this has a limit, which the watchdog sees to
present            both have
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

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


@dataclass(eq=False)
class Start:
    """A start of an actor that is under way."""

    member: Lane | Models
    before: Start | None = None
    """The one before, where no answer came of it: its process has died, or a reply was lost."""
    process: str = ""
    """Which process has been told to load; empty until there is one."""
    waited_s: float = 0.0
    """Seconds for which it has been loading."""
    verdict: str = ""
    """Why the watchdog has killed it, if it has."""

    @property
    def loading(self) -> bool:
        return bool(self.process)

    @property
    def actor(self) -> Any:
        return _actor(self.member)


class Roster:
    """Workers and analyzers, and the answers that absent ones still owe.

    Attributes:
        absent: reference to the answer -> the start that it is of.
    """

    def __init__(self, lanes: list[Lane], models: list[Models]) -> None:
        self.lanes = lanes
        self.models = models
        self.absent: dict[Any, Start] = {}
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
        start = self.absent.pop(ref)
        member = start.member
        try:
            answer = get(ref)
        except (RayActorError, RayTaskError) as error:
            if start.loading and isinstance(error, RayActorError):
                # Whether it died, the next answer tells: it comes of the same process, or not.
                self._call(member, start)
            else:
                self._failed_to_start(member, last_line(error))
                self._call(member)
            return
        if not start.loading:
            if start.before is not None and start.before.process != answer:
                died = "its process died while it loaded its models"
                self._failed_to_start(member, start.before.verdict or died)
            start.before, start.process = None, answer
            self.absent[start.actor.start.remote()] = start
            return
        self._failed.pop(id(member), None)
        member.present = True
        if isinstance(member, Models):
            member.verdict = ""

    def _failed_to_start(self, member: Lane | Models, why: str) -> None:
        failed = self._failed[id(member)] = self._failed.get(id(member), 0) + 1
        if failed >= STARTS:
            raise RunAborted(f"a worker could not start, {failed} times in a row: {why}") from None

    def await_enough(self, say: Any, look: Callable[[], None]) -> None:
        """Return when a worker, and where there are any an analyzer, can be given work.

        Args:
            say: called with a line where Ray has no place for them; it may find one later, when
                another job ends or a node joins.
            look: called every second or more often; the watchdog's.
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
            look()
            if enough_at is None and time.monotonic() - started > SAY_AFTER_S:
                loading = all(start.loading for start in self.absent.values())
                say("models are loading" if loading else _free())
        say("")

    def _enough(self) -> bool:
        there = any(lane.present for lane in self.lanes)
        return there and (not self.models or any(member.present for member in self.models))

    def _call(self, member: Lane | Models, before: Start | None = None) -> None:
        member.present = False
        self.absent[_actor(member).process.remote()] = Start(member, before)


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
