"""Takes candidates from the course of the run, and puts what is due for them on the board."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from pipeline.engine.course import Course
from pipeline.engine.lanes import Board, Work
from pipeline.engine.recovery import Recovery
from pipeline.engine.roster import Roster
from pipeline.records import Source, VideoIndex
from pipeline.resume import Candidate

READY_SHARDS = 3
"""Shards per worker to have planned ahead: videos are indexed while others are decoded, but no
further than this, so that a corpus is not indexed whole before its first row lands."""


@dataclass
class Intake:
    """Fills the board as far as the workers will soon need it."""

    course: Course
    board: Board
    roster: Roster
    recovery: Recovery
    attempts: int
    """That a shard is allowed."""

    def refill(self) -> None:
        """Take candidates until enough shards are planned ahead, or none are left."""
        lanes = max(1, len(self.roster.lanes))
        while (
            not self.course.exhausted
            and len(self.board.ready) < READY_SHARDS * lanes
            and len(self.board.to_index) < lanes
        ):
            candidate = self.course.next_due()
            if candidate is None:
                return
            self.take(candidate)

    def take(self, candidate: Candidate) -> None:
        """One that is due: its index is read, unless it is known."""
        if candidate.failure is not None:
            self.recovery.record(self.course.unreadable(candidate.source, candidate.failure))
            return
        index = self.course.known_index(candidate)
        if index is None:
            self.board.to_index.append((candidate, 0))
        else:
            self.begin(candidate.source, index)

    def begin(self, source: Source, index: VideoIndex) -> None:
        """Its index is there: plan its shards."""
        if self.course.budget.is_up:
            return  # It has come too late.
        tasks, report = self.course.begin(source, index)
        self.recovery.record(report)
        self.board.ready.extend(Work.of(task, self.attempts) for task in tasks)

    def leave_rest(self) -> None:
        """Once the budget is up, keep only what was begun, and has to be tried again."""
        if not self.course.budget.is_up:
            return
        board = self.board
        for work in board.ready:
            if not work.begun:
                self.course.leave(work.task)
        board.ready = deque(work for work in board.ready if work.begun)
        board.to_index = deque(item for item in board.to_index if item[1] > 0)
