"""What follows the videos of a pass: this process, or this one first and others where it takes
long. Those on Ray are in `engine.track_actors`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from itertools import chain

from pipeline.engine.cause import Cause, as_video_errors
from pipeline.engine.job import Job
from pipeline.errors import DeviceLost, RunAborted, VideoError
from pipeline.tracks.shards import ShardTracks, follower_of
from pipeline.tracks.video_work import Followed, RowsOf, Spread, Stop, VideoWork

BOXES_HERE_S = 20.0
"""How long a run on Ray follows boxes in its own process: about as long as processes on a cluster
take until they have paid for themselves."""


def follow_here(job: Job, device: str, threads: int = 1) -> Spread:
    """A spread over this process alone: see `shards.follower_of`."""

    def spread(given: Iterator[VideoWork], rows_of: RowsOf, stop: Stop) -> Iterator[Followed]:
        follower = None
        for work in given:
            # Once there is something to do: a model takes its time.
            follower = follower or follower_of(job.config, device, threads)
            while not stop() and (due := work.next()):
                opening, task, is_last = due
                rows = rows_of(task)
                came: ShardTracks | Cause
                try:
                    follow = partial(follower.follow, opening, task, rows, is_last)
                    came = as_video_errors(follow, "analyze")
                except DeviceLost as error:
                    raise RunAborted(
                        f"{error.reason}: the GPU cannot be used any more by this process; run "
                        "again, or with --engine ray, which replaces such processes"
                    ) from error
                except VideoError as error:
                    came = Cause.of(error)
                yield from work.came(task, came, rows)

    return spread


def here_first(here: Spread, elsewhere: Spread, seconds: float) -> Spread:
    """Another spread goes on with what this process has not done in some seconds.

    What is soon done is done before a process elsewhere would have begun.
    """

    def spread(given: Iterator[VideoWork], rows_of: RowsOf, stop: Stop) -> Iterator[Followed]:
        since = time.monotonic()
        newest: list[VideoWork] = []

        def ends() -> bool:
            return stop() or time.monotonic() - since > seconds

        def some() -> Iterator[VideoWork]:
            for work in given:
                newest[:] = [work]
                yield work
                if ends():
                    return

        yield from here(some(), rows_of, ends)
        left = [work for work in newest if not work.is_done]
        for work in left:
            work.let_go()
        yield from elsewhere(chain(left, given), rows_of, stop)

    return spread
