"""Finds actors that are stuck and replaces them: Ray has no limit for how long a call may take.

Only time in which an actor owes something counts: a decoder that waits to be drawn from is not
slow. What it was working on then fails like the work of any process that died.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import ray

from pipeline.config import EngineConfig
from pipeline.engine.lanes import Indexing, Lane, Member, Models, Stream
from pipeline.engine.roster import Roster, Start
from pipeline.engine.timing import clip_limit_s, index_limit_s, shard_limit_s

LONGEST_LOOK_S = 10.0
"""The driver looks every two seconds or more often, unless something keeps it."""


class Watchdog:
    """Clocks on what each actor is working on."""

    def __init__(
        self, config: EngineConfig, roster: Roster, is_awaited: Callable[[Stream], bool]
    ) -> None:
        """`is_awaited`: whether a stream's next result would be taken if it were there."""
        self._config = config
        self._roster = roster
        self._is_awaited = is_awaited
        self._looked_at = time.monotonic()

    def look(self) -> None:
        """Let the clocks go on, and kill what is over its limit."""
        now = time.monotonic()
        # Longer than a look takes the driver itself was busy, or stopped: nobody owed anything.
        passed = min(now - self._looked_at, LONGEST_LOOK_S)
        self._looked_at = now
        for lane in self._roster.lanes:
            if lane.present and lane.queue:
                self._look_at(lane, lane.queue[0], passed)
        for models in self._roster.models:
            if models.present and models.calls:
                self._look_at_models(models, passed)
        for start in self._roster.absent.values():
            if start.loading:
                self._look_at_start(start, passed)

    def _look_at(self, lane: Lane, item: Stream | Indexing, passed: float) -> None:
        if item.verdict:
            return
        if isinstance(item, Indexing):
            item.waited_s += passed
            limit = index_limit_s(self._config, item.candidate.source)
            if item.waited_s > limit:
                item.verdict = f"no index after {limit:.0f} s (engine.index_timeout)"
        elif self._is_awaited(item):
            item.waited_s += passed
            item.spent_s += passed
            limit = _item_limit_s(self._config, item)
            whole = shard_limit_s(self._config, item.work.task)
            if item.waited_s > limit:
                item.verdict = f"stuck: no result for {limit:.0f} s (engine.clip_timeout)"
            elif item.spent_s > whole:
                item.verdict = f"not done after {whole:.0f} s (engine.shard_timeout)"
        if item.verdict:
            _kill(lane)

    def _look_at_models(self, models: Models, passed: float) -> None:
        models.waited_s += passed
        # The first of them may have to wait for the others, one clip at a time.
        limit = sum(_item_limit_s(self._config, call.stream) for call in models.calls)
        if models.waited_s > limit and not models.verdict:
            models.verdict = f"stuck: no result for {limit:.0f} s (engine.clip_timeout)"
            _kill(models)

    def _look_at_start(self, start: Start, passed: float) -> None:
        start.waited_s += passed
        limit = self._config.start_timeout
        if start.waited_s > limit and not start.verdict:
            start.verdict = (
                f"models not loaded after {limit:.0f} s (engine.start_timeout); raise it where "
                "loading takes longer"
            )
            _kill(start.member)


def _item_limit_s(config: EngineConfig, stream: Stream) -> float:
    return stream.together * clip_limit_s(config, stream.work.task)


def _kill(member: Member) -> None:
    member.killed = True
    ray.kill(member.actor, no_restart=False)
