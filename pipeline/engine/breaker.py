"""Stops a run in which everything fails for one reason, before it fails a million videos.

Only reasons count that lie not in the file: a mount that is gone, a model that raises, processes
that die. Files that are no videos may come by the thousand and say nothing of the next one.
"""

from __future__ import annotations

from pipeline.engine.course import Report
from pipeline.engine.reasons import shape_of
from pipeline.errors import RunAborted


class Breaker:
    """Holds back what such failures would record until it is known whose fault they are.

    A success shows that the reason was the videos' own: what was held back is recorded then. If
    the run stops instead, it is forgotten, so that the next run takes these videos up again
    without being asked to.
    """

    def __init__(self, most: int) -> None:
        """`most`: videos in a row with one reason that stop the run; 0: none do."""
        self._most = most
        self._held: list[Report] = []
        self._videos: set[str] = set()
        self._reason = ""

    def sort(self, report: Report) -> list[Report]:
        """What is to be recorded now that `report` has come. Raises RunAborted."""
        systemic = [failure for failure in report.failures if failure.systemic]
        if not systemic or not self._most:
            return [report]
        ready: list[Report] = []
        reason = f"{systemic[0].stage}: {systemic[0].reason}"
        if shape_of(reason) != shape_of(self._reason):
            ready = self.release()
        self._reason = reason
        self._held.append(report)
        self._videos |= {failure.uri for failure in systemic}
        if len(self._videos) >= self._most:
            raise RunAborted(
                f"{len(self._videos)} videos in a row failed for one reason, so the run stops "
                f"before the others do: {reason}. The next run tries them again; if the reason is "
                "theirs all the same, raise engine.same_failures (0: go on whatever happens)"
            )
        return ready

    def release(self) -> list[Report]:
        """Something has succeeded, or the run has come to its end: what was held back."""
        held, self._held = self._held, []
        self._videos.clear()
        self._reason = ""
        return held
