"""What happens in a round, and all of it from the round's seed. Pure: nothing is touched here."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["driver", "decoder", "analyzer", "collector", "node", "disk", "crash", "hang", "rpc"]
Role = Literal["driver", "decoder", "analyzer", "collector", "node"]
Engine = Literal["attached", "own", "local"]
"""attached: on a cluster that outlives the round. own: the run starts a Ray. local: no Ray."""

WHEEL: tuple[Kind, ...] = (
    *("driver", "decoder", "node", "collector", "crash", "driver", "disk", "analyzer", "hang"),
    *("decoder", "driver", "rpc", "collector", "crash", "decoder", "disk", "node", "driver"),
    *("analyzer", "hang"),
)
"""A seed's place on it is the round's kind, so that any 200 seeds in a row hold 10 of each."""

SEEDS = 1000
"""Rounds that a campaign's seed has for itself."""

WITH_HANGS = True
"""Whether a watchdog ends what hangs (engine.clip_timeout and its like)."""

VIDEOS = {"a.mp4": 2300, "b.mkv": 300, "c.mp4": 1300, "d.ts": 250, "e.mp4": 150}
"""Frames of the corpus. f.mp4 has the bytes of e.mp4, and is not marked."""
LEFT_OVER = (1, 3)
"""Videos that the outputs of partial runs hold."""
MARK_TIMEOUTS = ("engine.clip_timeout=3", "engine.shard_timeout=15", "engine.index_timeout=4")


@dataclass(frozen=True)
class Moment:
    """`delay_s` after the `count`-th of something in the run."""

    after: Literal["start", "work", "file", "commit"]
    """start: the process began. work: the role that is to die was first seen at work. file: a data
    file appeared in the output, not yet committed. commit: a version of any table appeared."""
    count: int = 1
    delay_s: float = 0.0


@dataclass(frozen=True)
class Kill:
    """SIGKILL of one process (for a node: of its raylet)."""

    role: Role
    moment: Moment
    pick: int = 0
    """Which of them, where there are several."""


@dataclass(frozen=True)
class Mark:
    """A frame at which whoever meets it crashes or sleeps for ever."""

    how: Literal["crash", "hang"]
    stage: Literal["index", "decode", "analyze"]
    video: str
    frame: int
    times: int
    """How often; 0: always."""


@dataclass(frozen=True)
class Round:
    """One round: a disturbed run, a resume, and what the tables must hold then."""

    seed: int
    kind: Kind
    engine: Engine
    placement: Literal["fused", "split"]
    analyzers: int
    left: int
    """Videos that a partial run has left in the output; 0: there is none."""
    commit_s: float
    commit_bytes: int
    pace_s: float
    """Added to every clip, so that there is a run to disturb."""
    kills: tuple[Kill, ...] = ()
    mark: Mark | None = None
    disk: Literal["", "tmpfs", "rlimit"] = ""
    disk_share: float = 0.0
    """Of what the tables take: how much of it fits."""
    rpc: str = ""
    """The call of which replies are lost, and how many, as Ray's own test setting."""
    retry: bool = False
    """Whether what was quarantined is tried again at the end, without the fault."""

    @property
    def attempts(self) -> int:
        """A kill may cost a shard one try, and no more: with one more than kills none is lost."""
        return max(2, 1 + len(self.kills)) if self.kills else 3

    @property
    def workers(self) -> str:
        if self.kind != "node":
            return "auto"
        # All there is room for, so that the node that is lost has some of them; not where it may
        # be lost before the run looks what there is.
        return "auto" if any(kill.moment.after == "start" for kill in self.kills) else "4"

    def settings(self) -> list[str]:
        """`--set` of the disturbed run."""
        return [
            f"engine.placement={self.placement}",
            f"engine.analyzers={self.analyzers}",
            f"engine.attempts={self.attempts}",
            f"engine.workers={self.workers}",
            f"commit.seconds={self.commit_s}",
            f"commit.bytes={self.commit_bytes}",
            "memory.in_flight=64MiB",
            *(MARK_TIMEOUTS if self.mark and self.mark.how == "hang" else ()),
        ]


def kind_of(seed: int) -> Kind:
    return WHEEL[seed % len(WHEEL)]


def seeds(campaign: int, rounds: int, only: str | None = None) -> Iterator[int]:
    """The seeds of a campaign's rounds; those of one kind where `only` names it."""
    seed = campaign * SEEDS
    while rounds:
        if only in (None, kind_of(seed)):
            yield seed
            rounds -= 1
        seed += 1


def round_of(seed: int) -> Round:
    """The round that `seed` stands for."""
    rng, kind = random.Random(seed), kind_of(seed)
    placement = rng.choice(("fused", "split"))
    if kind == "analyzer":
        placement = "split"
    # As often after every shard as in one great commit at the end.
    often = rng.random() < 0.6
    common = {
        "seed": seed,
        "kind": kind,
        "engine": _engine(kind, rng),
        "placement": placement,
        "analyzers": rng.choice((1, 2)),
        "left": rng.choice((0, 0, *LEFT_OVER)),
        "commit_s": rng.choice((0.05, 0.3)) if often else 30.0,
        "commit_bytes": 2**16 if often else 4 * 2**20,
        "pace_s": rng.choice((0.0, 0.005, 0.02)),
    }
    if kind in ("crash", "hang"):
        return Round(**common, mark=_mark(kind, rng), retry=rng.random() < 0.5)  # type: ignore[arg-type]
    if kind == "disk":
        disk = rng.choice(("tmpfs", "rlimit"))
        # A limit on the size of a file bites where one commit holds much.
        common |= (
            {"left": 0, "commit_s": 30.0, "commit_bytes": 4 * 2**20} if disk == "rlimit" else {}
        )
        common |= {"left": 0}
        return Round(**common, disk=disk, disk_share=rng.uniform(0.1, 0.7))  # type: ignore[arg-type]
    if kind == "rpc":
        return Round(**common, rpc=_rpc(rng), retry=True)  # type: ignore[arg-type]
    return Round(**common, kills=_kills(kind, common["engine"], placement, rng))  # type: ignore[arg-type]


def _engine(kind: Kind, rng: random.Random) -> Engine:
    if kind == "driver":
        return rng.choice(("attached", "attached", "local", "local", "own"))  # type: ignore[return-value]
    if kind == "disk":
        return rng.choice(("attached", "local"))  # type: ignore[return-value]
    return "own" if kind == "rpc" else "attached"


def _kills(kind: Kind, engine: object, placement: str, rng: random.Random) -> tuple[Kill, ...]:
    """One to three, the first of the round's kind. Whatever ends the run comes last."""
    roles: list[Role] = [kind]  # type: ignore[list-item]
    if engine == "attached":
        others: list[Role] = ["decoder", "decoder"]
        others += ["analyzer"] if placement == "split" else []
        # What ends a run does so once.
        others += [] if kind in ("collector", "driver") else ["collector", "driver"]
        roles += rng.sample(others, rng.choice((0, 0, 1, 2)))
    roles.sort(key=lambda role: {"collector": 1, "driver": 2}.get(role, 0))
    return tuple(Kill(role, _moment(role, rng), rng.randrange(4)) for role in roles)


def _moment(role: Role, rng: random.Random) -> Moment:
    after = rng.choice(("start", "work", "file", "commit"))
    if role in ("decoder", "analyzer") and rng.random() < 0.5:
        after = "work"
    if after == "start":
        return Moment("start", delay_s=rng.uniform(0.0, 2.5))
    if after == "work":
        return Moment("work", delay_s=rng.uniform(0.0, 0.8))
    if after == "file":
        return Moment("file", rng.randint(1, 8), rng.choice((0.0, rng.uniform(0, 0.01))))
    # The first twelve make the tables and record the analyses.
    return Moment("commit", rng.randint(1, 24), rng.uniform(0.0, 0.03))


def _mark(kind: Kind, rng: random.Random) -> Mark:
    video = rng.choice(list(VIDEOS)[:-1])
    stage = rng.choice(("index", "decode", "decode", "analyze", "analyze"))
    frame = rng.randrange(VIDEOS[video])
    return Mark(kind, stage, video, frame, rng.choice((0, 0, 1, 2)))  # type: ignore[arg-type]


def _rpc(rng: random.Random) -> str:
    import json

    name = rng.choice(("PushTask", "PushTask", "ReportGeneratorItemReturns"))
    lost = {
        "num_failures": rng.choice((1, 3, 10)),
        "resp_failure_prob": rng.choice((5, 20, 50)),
        "req_failure_prob": rng.choice((0, 10)),
        "in_flight_failure_prob": 0,
    }
    return json.dumps({f"CoreWorkerService.grpc_client.{name}": lost})
