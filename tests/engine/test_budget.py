"""A run that stops at its budget ends what it has begun; the runs after it do exactly the rest."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.engine.budget import Budget
from pipeline.ledger.reader import Ledger
from pipeline.ledger.runs import read_runs
from pipeline.ledger.verify import verify
from pipeline.runner import run
from tests.engine.test_engines import assert_whole, probe
from tests.videos import make

LENGTHS = {"a.mp4": 40, "b.mp4": 25, "c.mp4": 4300, "d.mp4": 30, "e.mp4": 20}
"""c.mp4 has five shards."""
WHOLE = sum(LENGTHS.values())
SHARD = 1024
"""Frames of each of them but the last."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for name, length in LENGTHS.items():
        make(folder / name, length, width=64, height=48, gop=48)
    return folder


def config() -> Config:
    return probe(clip={"length": 32})


@pytest.fixture(params=["local", "fused", "split"])
def engine(request):
    """(engine, configuration)"""
    if request.param == "local":
        return "local", config()
    request.getfixturevalue("ray_here")
    return "ray", probe(clip={"length": 32}, engine={"placement": request.param})


def test_frames_are_kept_to_within_a_shard_and_the_rest_follows(engine, corpus, tmp_path):
    name, settings = engine
    output, budget, done, runs = tmp_path / "out", 1200, 0, 0
    while True:
        summary = run(settings, [str(corpus)], output, engine=name, budget_frames=budget)
        runs += 1
        done += summary.frames
        assert summary.exit_code == 0
        assert verify(str(output)).sound
        # All that has landed is in the tables, and nothing was done twice.
        assert Ledger(output).table("frames", current=False).num_rows == done
        if not summary.left:
            break
        assert budget <= summary.frames < budget + SHARD
        assert 0 < summary.left.videos <= len(LENGTHS)
        assert summary.left.why == "its budget of 1,200 frames"
    assert runs in (3, 4)
    assert_whole(output, WHOLE)
    assert [one["exit_code"] for one in read_runs(str(output))] == [0] * runs


def test_what_was_planned_and_not_begun_is_counted(corpus, tmp_path):
    summary = run(config(), [str(corpus)], tmp_path / "out", engine="local", budget_frames=66)
    # Both small ones before it, and the first shard of the large one.
    assert (summary.videos_ok, summary.frames, summary.shards) == (2, 65 + SHARD, 3)
    left = summary.left
    assert (left.videos, left.planned_shards, left.planned_frames) == (3, 4, 4300 - SHARD)
    assert left.counted


def test_no_video_is_begun_once_the_time_is_up(engine, corpus, tmp_path):
    name, settings = engine
    summary = run(settings, [str(corpus)], tmp_path / "out", engine=name, budget_s=1e-6)
    assert (summary.frames, summary.left.videos, summary.exit_code) == (0, len(LENGTHS), 0)
    assert not summary.did_nothing
    again = run(settings, [str(corpus)], tmp_path / "out", engine=name, budget_s=3600)
    assert (again.frames, bool(again.left)) == (WHOLE, False)
    assert_whole(tmp_path / "out", WHOLE)


def test_time_that_ends_within_a_video_leaves_the_rest_of_it(corpus, tmp_path, monkeypatch):
    from pipeline.engine import worker

    decode = worker.Decoder.decode

    def slowly(self, *args):
        time.sleep(1.0)
        yield from decode(self, *args)

    monkeypatch.setattr(worker.Decoder, "decode", slowly)
    inputs = [str(corpus / "c.mp4")]
    summary = run(config(), inputs, tmp_path / "out", engine="local", budget_s=2.5)
    assert 0 < summary.shards < 5
    assert summary.frames == Ledger(tmp_path / "out").table("frames").num_rows
    assert summary.left.planned_shards == 5 - summary.shards
    rest = run(config(), inputs, tmp_path / "out", engine="local")
    assert rest.frames == 4300 - summary.frames


def test_a_budget_that_was_enough_leaves_nothing(corpus, tmp_path):
    inputs = [str(corpus / "a.mp4")]
    summary = run(config(), inputs, tmp_path / "out", engine="local", budget_frames=40)
    assert (summary.frames, bool(summary.left), summary.left.why) == (40, False, "")


def test_what_was_done_before_and_what_failed_is_not_left(corpus, tmp_path):
    (tmp_path / "bad.mp4").write_text("no video")
    inputs = [str(tmp_path / "bad.mp4"), str(corpus)]
    output = tmp_path / "out"
    first = run(config(), inputs, output, engine="local", budget_frames=40)
    assert (first.videos_failed, first.videos_ok, first.left.videos) == (1, 1, 4)
    assert first.exit_code == 3
    # Known ones that lie behind the stop are looked at for the counts all the same.
    second = run(config(), [*reversed(inputs)], output, engine="local", budget_frames=20)
    assert (second.videos_done_before, second.videos_failed_before) == (1, 1)
    assert (second.videos_ok, second.left.videos) == (1, 3)


def test_a_shard_that_is_tried_again_is_begun_once():
    budget = Budget(frames=10)
    assert not budget.is_up
    budget.begins(9)
    assert not budget.is_up
    budget.begins(9)
    assert budget.is_up
    assert str(Budget(21600, 1000)) == "6 h or 1,000 frames"
