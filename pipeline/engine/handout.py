"""Gives work to the workers: videos to be indexed, shards to be decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.engine.budget import Budget
from pipeline.engine.collectors import Collectors
from pipeline.engine.flow import AHEAD_FUSED, AHEAD_SPLIT, Flow
from pipeline.engine.lanes import Board, Indexing, Lane, Stream, Work
from pipeline.engine.roster import Roster


@dataclass
class Handout:
    """What is on the board goes to the lanes, the emptiest first."""

    board: Board
    roster: Roster
    flow: Flow
    collectors: Collectors
    pending: dict[Any, Any]
    """The driver's: reference -> the Indexing that it is the answer to."""
    budget: Budget

    def work(self) -> None:
        """Give out whatever can be."""
        while True:
            short = len(self.board.ready) < len(self.roster.lanes)
            if not ((short and self._index_next()) or self._start_next() or self._index_next()):
                return

    def _lane(self, suspect: bool) -> Lane | None:
        lanes = [lane for lane in self.roster.lanes if lane.takes(suspect)]
        return min(lanes, key=lambda lane: len(lane.queue), default=None)

    def _index_next(self) -> bool:
        to_index = self.board.to_index
        if not to_index or (self.budget.is_up and not to_index[0][1]):
            return False
        lane = self._lane(to_index[0][1] > 0)
        if lane is None:
            return False
        candidate, strikes = to_index.popleft()
        indexing = Indexing(candidate, lane, strikes, lane.process)
        self.pending[lane.actor.index.remote(candidate.source)] = indexing
        lane.queue.append(indexing)
        return True

    def _start_next(self) -> bool:
        ready = self.board.ready
        if not ready or (self.budget.is_up and not ready[0].begun):
            return False
        lane = self._lane(ready[0].suspect)
        if lane is None or not self.flow.has_room(lane, ready[0]):
            return False
        if lane.queue and len(ready) <= len(self.roster.lanes):
            return False  # The last shards wait for whichever worker is free first.
        self._start(lane, ready.popleft())
        return True

    def _start(self, lane: Lane, work: Work) -> None:
        if not work.begun:
            self.budget.begins(work.task.frame_count)
        self.collectors.begin(work)
        ahead = AHEAD_SPLIT if self.flow.split else AHEAD_FUSED
        together = self.flow.together(work, lane)
        generator = lane.actor.stream.options(
            num_returns="streaming", _generator_backpressure_num_objects=ahead
        ).remote(work.task, work.attempt, together)
        item_bytes = self.flow.clip_bytes(work.task) * together
        stream = Stream(work, lane, generator, together, item_bytes, AHEAD_SPLIT + 1, lane.process)
        lane.queue.append(stream)
        self.board.streams.append(stream)
        self.flow.look()
