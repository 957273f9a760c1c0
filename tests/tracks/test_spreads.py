"""Who follows videos: this process, and others from where it has left off."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from pipeline.engine.budget import Budget
from pipeline.engine.job import Job
from pipeline.engine.stats import RunStats
from pipeline.ledger.verify import verify
from pipeline.sources.plan import Grid
from pipeline.tracks.spreads import follow_here, here_first
from pipeline.tracks.track_pass import track_videos
from pipeline.tracks.video_work import Followed, Spread
from tests.tracks.made import crowd, detect, make_config, make_index, make_job, rows, track

FRAMES = {"a": 120, "b": 90, "c": 60}
INDEXES = [make_index(count, name=name) for name, count in FRAMES.items()]
SHARDS = 9


@pytest.fixture(autouse=True)
def short_shards(monkeypatch) -> None:
    monkeypatch.setattr("pipeline.engine.job.Grid", partial(Grid, shard_frames=30))


def detected(output: object) -> Job:
    job = make_job(output, make_config())
    shards = [detect(job, index, crowd(n)) for n, index in enumerate(INDEXES)]
    assert sum(shards) == SHARDS
    return job


def follow(job: Job, spread: Spread) -> RunStats:
    stats = RunStats()
    due = {bytes.fromhex(index.video_id) for index in INDEXES}
    assert track_videos(job, due, set(), Budget(), stats, spread) == []
    return stats


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> list[dict[str, object]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.engine.job.Grid", partial(Grid, shard_frames=30))
        job = detected(tmp_path_factory.mktemp("whole") / "out")
        track(job, *INDEXES)
    return rows(job)


def test_what_is_soon_done_goes_nowhere(tmp_path, whole):
    job = detected(tmp_path / "out")

    def elsewhere(given, rows_of, stop) -> Iterator[Followed]:  # type: ignore[no-untyped-def]
        assert next(given, None) is None
        return
        yield

    stats = follow(job, here_first(follow_here(job, "cpu"), elsewhere, 1000.0))
    assert stats.tracked == len(FRAMES)
    assert rows(job) == whole


@pytest.mark.parametrize("here", range(SHARDS + 1))
def test_another_goes_on_at_any_border(tmp_path, whole, monkeypatch, here):
    """The clock of the first goes on by a second a shard."""
    job = detected(tmp_path / "out")
    shards = {"here": 0, "elsewhere": 0}

    def counted(spread: Spread, name: str) -> Spread:
        def follow(given, rows_of, stop) -> Iterator[Followed]:  # type: ignore[no-untyped-def]
            for followed in spread(given, rows_of, stop):
                shards[name] += 1
                yield followed

        return follow

    monkeypatch.setattr("pipeline.tracks.spreads.time.monotonic", lambda: float(shards["here"]))
    both = [counted(follow_here(job, "cpu"), name) for name in shards]
    stats = follow(job, here_first(*both, here - 0.5))
    assert shards == {"here": here, "elsewhere": SHARDS - here}
    assert (stats.tracked, stats.left.videos) == (len(FRAMES), 0)
    assert rows(job) == whole
    assert verify(job.output).sound


def test_ray_goes_on_with_boxes_on_all_cpus(ray_here, tmp_path, whole):
    from pipeline.engine.track_actors import follow_on_ray

    job = detected(tmp_path / "out")
    stats = RunStats()
    spread = here_first(follow_here(job, "cpu"), follow_on_ray(job, None, stats.say), 0.0)
    assert follow(job, spread).tracked == len(FRAMES)
    assert rows(job) == whole
    assert verify(job.output).sound
