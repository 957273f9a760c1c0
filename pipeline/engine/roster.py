"""Which actors can be given work: those that have loaded their models since they last started.

Ray brings dead actors back, and meanwhile refuses their calls at once: the emptiest of all, they
would be handed one piece of work after another.

waiting for room   process() has not been answered: the node may be full for hours
loading            start() has not: this has a limit, which the watchdog sees to
present            both have
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ActorUnschedulableError, RayActorError, RayTaskError

from pipeline.engine.lanes import Lane, Member, Models
from pipeline.engine.ray_errors import get, last_line
from pipeline.errors import FrameledgerError, RunAborted

STARTS = 3
"""Starts in a row that may fail before the actor's node is given up, or the run."""


@dataclass(eq=False)
class Start:
    """A start of an actor that is under way."""

    member: Member
    since: float
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


class Roster:
    """Workers and analyzers, and the answers that absent ones still owe.

    Attributes:
        absent: reference to the answer -> the start that it is of.
        given_up: node -> why no actor can be started there, though others can elsewhere.
    """

    def __init__(self, needs_models: bool) -> None:
        """`needs_models`: whether clips go to analyzers."""
        self.needs_models = needs_models
        self.lanes: list[Lane] = []
        self.models: list[Models] = []
        self.absent: dict[Any, Start] = {}
        self.given_up: dict[str, str] = {}
        self._failed: dict[int, int] = {}

    @property
    def members(self) -> Iterator[Member]:
        yield from self.lanes
        yield from self.models

    @property
    def enough(self) -> bool:
        """Whether there is anybody to do the work."""
        there = any(lane.present for lane in self.lanes)
        return there and (not self.needs_models or any(models.present for models in self.models))

    @property
    def counts(self) -> tuple[int, int]:
        """Workers and analyzers that are there."""
        return sum(one.present for one in self.lanes), sum(one.present for one in self.models)

    def add(self, member: Lane | Models) -> None:
        """One that has just been made."""
        if isinstance(member, Lane):
            self.lanes.append(member)
        else:
            self.models.append(member)
        self._call(member)

    def drop(self, member: Member) -> None:
        """One that will not come back."""
        member.gone, member.present = True, False
        if isinstance(member, Lane):
            self.lanes.remove(member)
        elif isinstance(member, Models):
            self.models.remove(member)
        self._failed.pop(id(member), None)
        self.absent = {ref: one for ref, one in self.absent.items() if one.member is not member}

    def lost(self, actor_id: str | None) -> Member | None:
        """An actor has died, or cannot be reached. Returns it, if it is one of these."""
        for member in self.members:
            if id_of(member.actor) == actor_id:
                if member.present:
                    self._call(member)
                return member
        return None

    def restart(self, member: Member) -> None:
        """End its process; another takes its place."""
        member.killed = True
        ray.kill(member.actor, no_restart=False)
        self.lost(id_of(member.actor))

    def answered(self, ref: Any) -> None:
        """One of `absent` is there. Raises what the user did wrong, or RunAborted, where an actor
        cannot be started at all."""
        start = self.absent.pop(ref, None)
        if start is None:
            return  # Its member was dropped meanwhile.
        member = start.member
        try:
            answer = get(ref)
        except ActorUnschedulableError:
            member.gone = True  # With its node.
        except (RayActorError, RayTaskError) as error:
            if start.loading and isinstance(error, RayActorError):
                # Whether it died, the next answer tells: it comes of the same process, or not.
                self._call(member, start)
            else:
                self._failed_to_start(member, last_line(error))
                self._call(member)
        except FrameledgerError as error:
            if not self._give_up(member, str(error)):
                raise
        else:
            if start.loading:
                self._arrived(member)
            else:
                self._placed(start, answer)

    def _placed(self, start: Start, process: str) -> None:
        member = start.member
        if start.before is not None and start.before.process != process:
            died = "its process died while it loaded its models"
            self._failed_to_start(member, start.before.verdict or died)
        member.process = start.process = process
        start.before = None
        self.absent[member.actor.start.remote()] = start

    def _arrived(self, member: Member) -> None:
        self._failed.pop(id(member), None)
        member.present, member.killed = True, False
        if isinstance(member, Models):
            member.verdict = ""

    def _failed_to_start(self, member: Member, why: str) -> None:
        failed = self._failed[id(member)] = self._failed.get(id(member), 0) + 1
        why = f"could not start, {failed} times in a row: {why}"
        if failed >= STARTS and not self._give_up(member, why):
            raise RunAborted(f"a worker {why}") from None

    def _give_up(self, member: Member, why: str) -> bool:
        """Leave out a node on which an actor cannot start. False where none could anywhere."""
        if not any(other.present and other.node != member.node for other in self.members):
            return False
        self.given_up[member.node] = why
        member.gone = True
        return True

    def _call(self, member: Member, before: Start | None = None) -> None:
        member.present, member.process = False, ""
        start = Start(member, time.monotonic(), before)
        self.absent[member.actor.process.remote()] = start


def id_of(actor: Any) -> str:
    """As the exceptions of dead actors name it."""
    return str(actor._actor_id.hex())
