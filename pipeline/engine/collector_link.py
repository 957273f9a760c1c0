"""The driver's side of the collector: what it was told stays owed until it has said so.

A collector that dies comes back, with all that it had journaled. What it had not heard yet, or
not journaled, is told again; shards that were not whole are redone by the driver.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from pipeline.engine.course import Report
from pipeline.engine.ray_errors import died, get, last_line, started
from pipeline.engine.roster import id_of
from pipeline.errors import RunAborted
from pipeline.records import ShardTask, VideoIndex

MOST_DEATHS = 5
"""Without a result that came through in between."""


class CollectorLink:
    """Calls of one collector actor, in order."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._owed: dict[Any, tuple[str, tuple[Any, ...]] | None] = {}
        """Calls that have not been answered: how to make them again, or None."""
        self._number = 0
        self._deaths = 0

    def await_ready(self) -> None:
        """Return when it has opened its tables. Raises what the user did wrong, or RunAborted."""
        started(self._actor.ready.remote(), "the collector is gone")

    def is_of(self, error: RayError) -> bool:
        """Whether `error` tells of the collector's death."""
        return died(error) == id_of(self._actor)

    # -- what it is told ----------------------------------------------------------------

    def record(self, report: Report) -> None:
        if report.failures or report.outcomes:
            # The number keeps what is told twice from being written twice.
            self._number += 1
            self._tell("record", report, self._number)

    def index(self, index: VideoIndex) -> None:
        self._tell("index", index)

    def _tell(self, method: str, *args: Any) -> None:
        self._owed[getattr(self._actor, method).remote(*args)] = method, args

    def begin(self, task: ShardTask, attempt: int) -> None:
        # Not made again after a death: the attempt is redone as a whole.
        self._owed[self._actor.begin.remote(task, attempt)] = None

    def discard(self, task_key: str, attempt: int) -> None:
        self._owed[self._actor.discard.remote(task_key, attempt)] = None

    def add(self, parcels: Sequence[Any]) -> Any:
        """Send references to parcels on; the reference to what is said of each."""
        return self._actor.add.remote(*parcels)

    def tick(self) -> None:
        self._owed[self._actor.tick.remote()] = None

    # -- what it says -------------------------------------------------------------------

    def heard(self) -> None:
        """A result came through: whatever killed it before does not kill it every time."""
        self._deaths = 0

    def settle(self, *, all_owed: bool = False) -> bool:
        """Take note of what has been done; with `all_owed`, wait for it. False where the collector
        is found dead.

        Raises what it raised, such as RunAborted where the store cannot be written.
        """
        if not self._owed:
            return True
        done, _ = ray.wait(
            [*self._owed], num_returns=len(self._owed), timeout=None if all_owed else 0
        )
        for ref in done:
            try:
                get(ref)
            except RayError as error:
                if self.is_of(error):
                    return False
                raise
            del self._owed[ref]
        return True

    def revive(self, error: RayError | None = None) -> None:
        """Wait for a collector that died to be back, and tell it what it may have missed.

        Raises RunAborted where it does not come back, or dies again and again.
        """
        self._deaths += 1
        if self._deaths > MOST_DEATHS:
            why = last_line(error) if error is not None else "its process died"
            raise RunAborted(f"the collector died {self._deaths} times: {why}")
        self.await_ready()
        owed, self._owed = self._owed, {}
        for ref, call in owed.items():
            if call is not None and not _done(ref):
                method, args = call
                self._tell(method, *args)

    def flush(self) -> None:
        """Commit all that is whole, now."""
        self._surely("flush")

    def close(self) -> tuple[int, float]:
        """Commit all that is whole, for the last time. Returns (commits, seconds in commits)."""
        commits, seconds = self._surely("close")
        return int(commits), float(seconds)

    def _surely(self, method: str) -> Any:
        """The answer to a call after all that is owed; again where the collector dies of it."""
        while True:
            try:
                # That a call to a process that died has failed may be heard only after its
                # successor has answered another.
                if self.settle(all_owed=True):
                    answer = get(getattr(self._actor, method).remote())
                    if self.settle():  # Calls are answered in order: all that was owed by now.
                        return answer
                self.revive()
            except RayError as error:
                if not self.is_of(error):
                    raise
                self.revive(error)

    def kill(self) -> None:
        ray.kill(self._actor)


def _done(ref: Any) -> bool:
    ready, _ = ray.wait([ref], timeout=0)
    if not ready:
        return False
    try:
        ray.get(ref)
    except RayError:
        return False
    return True
