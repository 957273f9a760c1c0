"""The pass over real tables: the same rows however the work is cut."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.engine.budget import Budget
from pipeline.engine.stats import RunStats
from pipeline.ledger.adopt import adopt
from pipeline.ledger.analyses import record_analyses
from pipeline.ledger.commit import LedgerWriter
from pipeline.ledger.reader import Ledger
from pipeline.ledger.reopen import Reopening, reopen
from pipeline.ledger.status import status
from pipeline.ledger.store import Store
from pipeline.ledger.superseded import find_superseded
from pipeline.ledger.verify import verify
from pipeline.tracks import light_pass
from pipeline.tracks.spreads import follow_here
from pipeline.tracks.track_pass import track_videos
from tests.tracks.made import (
    crowd,
    detect,
    make_config,
    make_index,
    make_job,
    rows,
    track,
)

FRAMES = 240
BACKENDS = ("bytetrack", "ocsort")
SHARD_FRAMES = 40


@pytest.fixture(autouse=True)
def short_shards(monkeypatch):
    """Several shards in a video that is made in a moment."""
    monkeypatch.setattr("pipeline.engine.job.Grid", _short_grid)


def _short_grid(**settings):
    from pipeline.sources.plan import Grid

    return Grid(**settings, shard_frames=SHARD_FRAMES)


@pytest.mark.parametrize("backend", BACKENDS)
def test_tracks_are_the_same_whatever_the_clips_and_their_order(tmp_path, backend):
    found = {}
    for length, backwards in ((7, False), (32, False), (1000, False), (7, True)):
        job = make_job(tmp_path / f"{length}-{backwards}", make_config(length, backend=backend))
        index = make_index(FRAMES, steps=(3000, 3000, 6000, 1500))
        shards = detect(job, index, crowd(1), frozenset({50, 51, 120}), backwards)
        assert (shards == 1) is (length == 1000)
        stats = track(job, index)
        found[length, backwards] = rows(job)
        assert stats.rows["tracks"] == len(rows(job))
        assert verify(job.output).sound
    first = found[7, False]
    assert len({row["track_id"] for row in first}) >= 6
    assert {row["state"] for row in first} == {"tracked", "lost"}
    assert not {50, 51, 120} & {row["frame_index"] for row in first}
    assert all(one == first for one in found.values())


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_pass_goes_on_behind_the_shard_at_which_it_was_cut(tmp_path, monkeypatch, backend):
    config = make_config(backend=backend)
    index, scene = make_index(FRAMES), crowd(2)
    whole = make_job(tmp_path / "whole", config)
    shards = detect(whole, index, scene)
    track(whole, index)
    made = light_pass.track_shard
    for border in range(1, shards):
        job = make_job(tmp_path / f"cut-{border}", config)
        detect(job, index, scene)
        tried: list[int] = []

        def cut(*arguments, tried=tried, border=border):
            tried.append(1)
            if len(tried) == border + 1:
                raise KeyboardInterrupt
            return made(*arguments)

        monkeypatch.setattr(light_pass, "track_shard", cut)
        with pytest.raises(KeyboardInterrupt):
            track(job, index)
        assert {a.name: a.shards for a in status(job.output).analyses}["tracker"] == border
        tried.clear()
        tried.extend([1] * shards * 2)
        assert track(job, index).tracked == 1
        assert len(tried) == shards * 2 + shards - border
        monkeypatch.setattr(light_pass, "track_shard", made)
        assert rows(job) == rows(whole)
        assert verify(job.output).sound


_KILLED = """
import os, sys
import tests.tracks.test_track_pass as t
from pipeline.sources.plan import Grid
import pipeline.engine.job
pipeline.engine.job.Grid = t._short_grid
from pipeline.ledger.commit import LedgerWriter
job = t.make_job(sys.argv[1], t.make_config(), "killed")
add, count = LedgerWriter.add_derived, []
def dies(self, *arguments):
    add(self, *arguments)
    count.append(1)
    if len(count) == 3:
        os._exit(9)
LedgerWriter.add_derived = dies
t.track(job, t.make_index(t.FRAMES))
"""


def test_what_a_killed_pass_had_made_is_taken_over(tmp_path):
    index, scene = make_index(FRAMES), crowd(2)
    whole, job = (make_job(tmp_path / name, make_config()) for name in ("whole", "killed"))
    detect(whole, index, scene)
    detect(job, index, scene)
    track(whole, index)
    ended = subprocess.run(
        [sys.executable, "-c", _KILLED, job.output],
        cwd=Path(__file__).parents[2],
        check=False,
        timeout=300,
    )
    assert ended.returncode == 9
    assert Ledger(job.output).table("tracks").num_rows == 0
    adopted = adopt(job.output, alive=())
    assert 0 < adopted["tracks"] < len(rows(whole))
    track(job, index)
    assert rows(job) == rows(whole)
    assert verify(job.output).sound


def test_a_second_pass_writes_nothing(tmp_path):
    job = make_job(tmp_path / "out", make_config())
    index = make_index(FRAMES)
    detect(job, index, crowd(3))
    track(job, index)
    before = Ledger(job.output).table("tracks", current=False)
    assert track(job, index).tracked == 0
    assert Ledger(job.output).table("tracks", current=False) == before


def test_videos_have_identities_of_their_own(tmp_path):
    alone, both = (make_job(tmp_path / name, make_config()) for name in ("alone", "both"))
    one, two = make_index(FRAMES), make_index(100, name="b")
    detect(alone, two, crowd(5))
    detect(both, one, crowd(4))
    detect(both, two, crowd(5))
    track(alone, two)
    assert track(both, one, two).tracked == 2
    assert [row for row in rows(both) if row["video_id"] == two.video_id] == rows(alone)


def test_another_detector_or_another_parameter_makes_other_tracks(tmp_path):
    prints = {
        make_job(tmp_path, make_config(**settings)).tracks.fingerprint
        for settings in (
            {},
            {"stride": 2},
            {"class_aware": False},
            {"lost_seconds": 2.0},
            {"backend": "ocsort"},
        )
    }
    assert len(prints) == 5


def test_a_backlog_waits_where_the_budget_is_up_and_what_was_worked_does_not(tmp_path):
    job = make_job(tmp_path / "out", make_config())
    index = make_index(60)
    detect(job, index, crowd(6))
    due = {bytes.fromhex(index.video_id)}
    spent = Budget(frames=1, begun_frames=1)
    stats = RunStats()
    track_videos(job, set(), due, spent, stats, follow_here(job, "cpu"))
    assert (stats.tracked, stats.left.videos) == (0, 1)
    track_videos(job, due, set(), spent, stats, follow_here(job, "cpu"))
    assert stats.tracked == 1


def test_verify_finds_what_is_wrong_with_tracks(tmp_path):
    job = make_job(tmp_path / "out", make_config())
    index = make_index(60)
    detect(job, index, crowd(7))
    track(job, index)
    good = Ledger(job.output).table("tracks")
    assert verify(job.output).sound
    tracked = [i for i, state in enumerate(good.column("state").to_pylist()) if state == "tracked"]
    spoilt = good.to_pylist()
    spoilt[tracked[0]] |= {"track_id": 0}
    spoilt[tracked[1]] |= {"detection_index": 99}
    spoilt[tracked[2]] |= {"state": "lost"}
    spoilt[tracked[3]] |= {"x2": float(10**6)}
    spoilt.append(dict(spoilt[tracked[9]]))
    _replace(job, good, pa.Table.from_pylist(spoilt, good.schema))
    said = " ".join(finding.what for finding in verify(job.output).findings)
    for what in (
        "track_id below 1",
        "detection_index of no detection",
        "state is not that of a track with its detection",
        "box outside its frame",
        "track more than once in a frame",
        "detection in more than one track",
        "according to shards",
    ):
        assert what in said, what


def _replace(job, before: pa.Table, after: pa.Table) -> None:
    from pipeline.ledger.rewrite import change_rows
    from pipeline.ledger.store import Store

    change_rows(Store(job.output), "tracks", None, lambda rows: after.select(rows.schema.names))


def test_a_shard_that_is_taken_back_takes_all_tracks_of_its_video(tmp_path):
    job = make_job(tmp_path / "out", make_config())
    one, two = make_index(FRAMES), make_index(60, name="b")
    detect(job, one, crowd(8))
    detect(job, two, crowd(9))
    track(job, one, two)
    before = rows(job)
    shards = Ledger(job.output).table("shards", analysis=job.analyses[0].fingerprint).to_pylist()
    (third,) = (s for s in shards if s["video_id"] == one.video_id and s["shard_index"] == 2)
    prints = tuple(analysis.fingerprint for analysis in job.wanted)
    what = Reopening(prints, ((one.video_id, third["first_frame"], third["last_frame"]),))
    assert reopen(Store(job.output), what, "mine")
    assert {row["video_id"] for row in rows(job)} == {two.video_id}
    again = make_job(job.output, make_config(), "again")
    detect(again, one, crowd(8))
    assert track(again, one, two).tracked == 1
    assert rows(job) == before
    assert verify(job.output).sound


def test_detections_that_the_newest_tracks_are_made_of_are_kept(tmp_path):
    job = make_job(tmp_path / "out", make_config())
    index = make_index(60)
    detect(job, index, crowd(10))
    track(job, index)
    store = Store(job.output)
    newer = [job.analyses[0], replace(job.analyses[1], identity={"model": "newer"})]
    record_analyses(store, newer, "later")
    assert find_superseded(store).analyses == ()
    other = make_job(job.output, make_config(lost_seconds=3.0))
    record_analyses(store, [newer[1], other.tracks], "last")
    assert {a.name for a in find_superseded(store).analyses} == {"tracker"}
    newest = replace(other.tracks, identity={**other.tracks.identity, "detections": "newer"})
    record_analyses(store, [newest], "at last")
    found = find_superseded(store).analyses
    assert sorted(a.name for a in found) == ["detector", "tracker", "tracker"]


def test_a_video_that_lacks_detections_has_no_tracks_yet(tmp_path):
    job = make_job(tmp_path / "out", make_config())
    index = make_index(FRAMES)
    with LedgerWriter(job.output, "earlier", job.by_fingerprint()) as writer:
        writer.add_index(index)
    assert track(job, index).tracked == 0
