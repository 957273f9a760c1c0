"""The run's collectors: one for so many analyzers, each with the videos whose ids fall to it.

What is written of one video thus goes through one collector, in order: its index, its shards, and
then the row that says how it ended. Each has its own journal and its own numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ray.exceptions import RayError

from pipeline.engine.collector_link import CollectorLink
from pipeline.engine.course import Report
from pipeline.engine.lanes import Work
from pipeline.errors import RunAborted
from pipeline.records import VideoIndex


class Collectors:
    """The links to all of them."""

    def __init__(self, links: Sequence[CollectorLink]) -> None:
        self.links = links

    def of(self, video_id: str) -> CollectorLink:
        """Who keeps what is found out about a video; of one that has no index, by its uri."""
        if len(self.links) == 1:
            return self.links[0]
        digest = hashlib.blake2b(video_id.encode(), digest_size=8).digest()
        return self.links[int.from_bytes(digest, "big") % len(self.links)]

    def link_of(self, error: RayError) -> CollectorLink | None:
        """The collector whose death `error` tells of."""
        return next((link for link in self.links if link.is_of(error)), None)

    def await_ready(self) -> None:
        """Return when all have opened their tables. Raises what the user did wrong."""
        for link in self.links:
            link.await_ready()

    # -- what they are told -------------------------------------------------------------

    def record(self, report: Report) -> None:
        """Failures and outcomes, which are all of one video."""
        about = next((one.video_id or one.uri for one in report.failures), "")
        for outcome in report.outcomes:
            about = outcome.index.video_id if outcome.index is not None else outcome.source.uri
        if about:
            self.of(about).record(report)

    def index(self, index: VideoIndex) -> None:
        self.of(index.video_id).index(index)

    def begin(self, work: Work) -> None:
        self.of(work.task.index.video_id).begin(work.task, work.attempt)

    def discard(self, work: Work) -> None:
        self.of(work.task.index.video_id).discard(work.task.key, work.attempt)

    def flush(self) -> None:
        """Commit all that is whole, now."""
        for link in self.links:
            link.flush()

    def close(self) -> tuple[int, float]:
        """Commit all that is whole, for the last time. Returns (commits, seconds in commits) since
        the last acknowledgements."""
        commits, seconds, broken = 0, 0.0, None
        for link in self.links:
            try:
                more, took = link.close()
            except (RayError, RunAborted) as error:
                broken = broken or error  # What the others have is whole all the same.
            else:
                commits, seconds = commits + more, seconds + took
        if broken is not None:
            raise broken
        return commits, seconds

    def kill(self) -> None:
        for link in self.links:
            link.kill()
