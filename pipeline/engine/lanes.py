"""The driver's records of what each actor has before it. Plain Python, no ray.

Records are compared by identity: two shards of one video hold arrays, which do not compare.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.engine.cause import Cause
from pipeline.engine.trials import Trials
from pipeline.records import Quarantine, ShardTask
from pipeline.resume import Candidate

QUEUED = 2
"""Pieces of work that a worker has at once: one that it works on, one that it goes on with while
the driver hears of the first. Without the second it idles for milliseconds after each, a tenth
of its time where videos are short."""
CALLS_PER_ANALYZER = 2
"""One that is worked on, one whose arguments Ray fetches meanwhile."""
MOST_EXCUSED = 20
"""Attempts at one shard that may end by no fault of its own, after which it is held to be one."""


@dataclass(eq=False)
class Work:
    """A shard waiting for its turn."""

    task: ShardTask
    trials: Trials
    attempt: int = 1
    """Tells results of one try from another's."""
    excused: int = 0
    """Attempts that ended by no fault of the shard's."""

    @classmethod
    def of(cls, task: ShardTask, attempts: int) -> Work:
        return cls(task, Trials(attempts))

    @property
    def begun(self) -> bool:
        """A worker has had it before."""
        return self.attempt > 1

    @property
    def suspect(self) -> bool:
        """It failed before: it is worked alone, so that nothing else pays for it if it kills, and
        clip by clip, so that it is seen which one does."""
        return self.trials.failed > 0

    def put_off(self) -> Work:
        """The same again, at no cost to its tries."""
        return replace(self, attempt=self.attempt + 1, excused=self.excused + 1)

    def clip_at(self, number: int) -> int | None:
        """clip_index of the `number`th clip that comes of it, None behind the last."""
        healthy = self.task.healthy_clips()
        return healthy[number].clip_index if number < len(healthy) else None

    def after(self, cause: Cause, number: int, frames: str) -> Work | None:
        """What is to be tried after this attempt failed at its clip `number`; None: nothing.

        Args:
            frames: fingerprint of the frames analysis. Where its rows have landed before, no
                single clip can be left out any more.
        """
        clip = self.clip_at(number) if self.suspect else None
        verdict = "give up" if cause.final else self.trials.strike(clip)
        if verdict == "give up" or (verdict == "quarantine" and frames not in self.task.analyses):
            return None
        task = self.task
        if verdict == "quarantine" and clip is not None:
            tries = self.trials.attempts_at(clip)
            given_up = Quarantine(clip, cause.stage, cause.reason, tries)
            task = replace(task, quarantined=(*task.quarantined, given_up))
        return replace(self, task=task, attempt=self.attempt + 1)


@dataclass(eq=False)
class Indexing:
    """A video whose packets a worker reads."""

    candidate: Candidate
    lane: Lane
    strikes: int = 0
    """Tries that failed before."""
    process: str = ""
    """Of the lane's processes, the one that was told to."""
    spared: bool = False
    """It was queued behind something that killed the worker."""
    waited_s: float = 0.0
    verdict: str = ""
    """Why the watchdog has killed the worker, if it has."""

    @property
    def suspect(self) -> bool:
        """As of a shard: it failed before."""
        return self.strikes > 0


@dataclass(eq=False)
class Stream:
    """A shard on a worker."""

    work: Work
    lane: Lane
    generator: Any
    together: int
    """How many of its clips make an item; the last may have fewer."""
    item_bytes: int
    """An upper bound for one of its items."""
    ahead: int
    """Items that it may hold undrawn, the one being filled among them."""
    process: str = ""
    """Of the lane's processes, the one that was given it."""
    drawn: int = 0
    in_flight: int = 0
    """Its items with analyzers."""
    done: bool = False
    """The generator is at its end; the worker has gone on."""
    failed: bool = False
    """Given up: it is still drawn to its end, which frees the worker, but nothing is sent on."""
    landed: bool = False
    """The collector has all of it: what comes of it yet says nothing."""
    waited_s: float = 0.0
    """Seconds for which its next result has been owed."""
    spent_s: float = 0.0
    """The same for all its results together."""
    verdict: str = ""
    """Why the watchdog has killed the worker, if it has."""

    @property
    def suspect(self) -> bool:
        return self.work.suspect

    @property
    def has_clips_next(self) -> bool:
        """What is drawn next is clips, and not yet the end."""
        return self.drawn * self.together < len(self.work.task.shard.clips)

    def came(self) -> None:
        """A result has come."""
        self.waited_s = 0.0

    @property
    def held_bytes(self) -> int:
        """What it may hold. One item with an analyzer is always counted, so that a stream that
        was let in can go on whatever the others take."""
        if self.done:
            return self.in_flight * self.item_bytes
        return (self.ahead + max(1, self.in_flight)) * self.item_bytes


@dataclass
class Board:
    """What is planned and under way."""

    ready: deque[Work] = field(default_factory=deque)
    to_index: deque[tuple[Candidate, int]] = field(default_factory=deque)
    """Videos without an index, with the tries that they have cost."""
    streams: list[Stream] = field(default_factory=list)
    """Shards whose last word has not come yet."""

    @property
    def is_empty(self) -> bool:
        return not (self.ready or self.to_index or self.streams)


@dataclass(eq=False)
class Member:
    """An actor of the run that can come and go."""

    actor: Any
    node: str = ""
    """The id of the node that it was made for; it runs there or not at all."""
    process: str = ""
    """The id of the process that it has; empty until it is known that it has one."""
    present: bool = False
    """It can be given work: its process has loaded what it needs."""
    retiring: bool = False
    """It ends when it has done what it has."""
    killed: bool = False
    """Its process was ended by this run, for what it did or did not do."""
    gone: bool = False
    """It will not come back, since its node has gone."""

    @property
    def idle(self) -> bool:
        """It has nothing to do."""
        raise NotImplementedError


@dataclass(eq=False)
class Lane(Member):
    """A worker and what it was given, in the order in which it works."""

    queue: list[Stream | Indexing] = field(default_factory=list)

    @property
    def idle(self) -> bool:
        return not self.queue

    def takes(self, suspect: bool = False) -> bool:
        """Whether another piece may be queued here; one that failed before only by itself."""
        if not self.present or self.retiring:
            return False
        if suspect:
            return not self.queue
        return len(self.queue) < QUEUED and not any(item.suspect for item in self.queue)

    def is_first(self, item: Stream | Indexing) -> bool:
        """Whether the worker is, as far as the driver knows, working on `item`."""
        return bool(self.queue) and self.queue[0] is item

    def leave(self, item: Stream | Indexing) -> None:
        """The worker has ended with `item`."""
        if item in self.queue:
            self.queue.remove(item)


@dataclass(eq=False)
class Models(Member):
    """An analyzer of split placement."""

    calls: list[Result] = field(default_factory=list)
    """What is with it, in the order in which it was sent them."""
    waited_s: float = 0.0
    """Seconds for which it has worked on the first of them."""
    verdict: str = ""
    """Why the watchdog has killed it, if it has."""

    @property
    def idle(self) -> bool:
        return not self.calls

    def takes(self, suspect: bool = False) -> bool:
        """Whether it can be sent more. A clip of a shard that failed before is sent to nobody
        who has another: if it kills, it is known what did."""
        if not self.present or self.retiring:
            return False
        if suspect or not self.calls:
            return not self.calls
        return len(self.calls) < CALLS_PER_ANALYZER and not self.calls[0].stream.suspect

    def leave(self, call: Result) -> None:
        """A call has ended, one way or the other."""
        self.calls.remove(call)
        self.waited_s = 0.0


@dataclass(eq=False)
class Result:
    """What comes of an item of a stream: a parcel of results, or what went wrong."""

    stream: Stream
    number: int
    """How many of the attempt's items came before it: clips, where the shard is suspect."""
    ref: Any
    """None where it is known that there is no parcel."""
    models: Models | None = None
    """Who analyzes it, where that is another than who decoded it."""
    process: str = ""
    """Of the processes of `models`, the one that was sent it."""
