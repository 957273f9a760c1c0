"""Runs that overlap: they share the work and the bill, or one leaves it to the other."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.ledger.alive import live_runs
from pipeline.ledger.leases import Lease
from pipeline.ledger.reader import Ledger
from pipeline.ledger.runs import read_runs
from pipeline.ledger.verify import verify
from pipeline.runner import run
from tests.engine.test_engines import assert_whole, probe
from tests.test_cli import ROOT
from tests.videos import make
from tests.year.synthetic import MODELS, Models, worked

LENGTHS = [20 + number for number in range(10)]
CLIP = 8


@pytest.fixture
def corpus(tmp_path) -> Path:
    for length in LENGTHS:
        make(tmp_path / "v" / f"{length}.mp4", length, width=96, height=80)
    (tmp_path / "c.yaml").write_text(f"embedder: {{backend: probe}}\nclip: {{length: {CLIP}}}\n")
    return tmp_path / "v"


class Runs:
    """Processes with analyzers that write down what they work on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "worked.log"
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *options: str, pace_s: float = 0.0) -> subprocess.Popen[str]:
        models = Models(1, 1, str(self.log), pace_s)
        names = [str(self.folder / name) for name in ("c.yaml", "v")]
        arguments = [*names, "-o", str(self.folder / "out"), "--engine", "local", *options]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.year.synthetic", "run", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env={**os.environ, MODELS: str(models), "PYTHONPATH": str(ROOT)},
        )
        self.started.append(process)
        return process

    @property
    def frames(self) -> int:
        """That the embedder was given, by all of them."""
        return worked(self.log)["embedder"]


@pytest.fixture
def runs(tmp_path):
    found = Runs(tmp_path)
    yield found
    for process in found.started:
        process.kill()
        process.wait()


def wait_for(what: Callable[[], bool], seconds: float = 300.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_two_at_once_cost_what_one_costs(corpus, runs, tmp_path):
    both = [runs.start(pace_s=0.01) for _ in range(2)]
    said = [process.communicate(timeout=600)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert runs.frames == sum(LENGTHS)
    assert sum(one["frames"] for one in read_runs(str(tmp_path / "out"))) == sum(LENGTHS)
    assert verify(str(tmp_path / "out")).sound


def test_what_another_has_done_and_left_since_is_not_done_again(corpus, tmp_path, monkeypatch):
    """It came and went while this one was at its first video: no lease tells of it any more."""
    from pipeline.engine import local

    config, output, others = probe(), tmp_path / "out", []
    run(config, [str(corpus / "20.mp4")], output, engine="local")
    work = local._Local.work

    def and_another(self, candidate):
        work(self, candidate)
        if not others:
            others.append(None)
            others[0] = run(config, [str(corpus)], output, engine="local", limit=6)

    monkeypatch.setattr(local._Local, "work", and_another)
    summary = run(config, [str(corpus)], output, engine="local")
    (other,) = others
    assert other.videos_ok == 6
    assert summary.videos_ok == len(LENGTHS) - 1 - 6
    assert summary.frames + other.frames == sum(LENGTHS) - 20
    assert not summary.left
    assert Ledger(output).table("videos", current=False).num_rows == len(LENGTHS)
    assert_whole(output, sum(LENGTHS))


def test_the_next_run_goes_on_at_once_where_the_holder_was_killed(corpus, runs, tmp_path):
    first = runs.start(pace_s=0.03)
    wait_for(lambda: runs.frames > sum(LENGTHS) / 2)
    first.kill()
    first.communicate()
    done = runs.frames
    began = time.monotonic()
    next_one = runs.start()
    said, _ = next_one.communicate(timeout=300)
    assert next_one.returncode == 0, said
    # Not after the minute that the lease of a run on another host is given.
    assert time.monotonic() - began < 30
    assert verify(str(tmp_path / "out")).sound
    assert Ledger(tmp_path / "out").table("embeddings").num_rows == sum(LENGTHS)
    # The killed one had one video in hand; what was whole is kept.
    assert 0 <= runs.frames - sum(LENGTHS) <= max(LENGTHS)
    assert runs.frames - done < sum(LENGTHS) / 2 + max(LENGTHS)


def test_the_other_of_two_takes_over_what_a_killed_one_had_finished(corpus, runs, tmp_path):
    """Also what lies in its journal only, for commits come once in 30 s."""
    first = runs.start(pace_s=0.03)
    wait_for(lambda: runs.frames > sum(LENGTHS) / 3)
    second = runs.start("--priority", "newest", pace_s=0.03)
    wait_for(lambda: len(live_runs(str(tmp_path / "out"))) == 2 or first.poll() is not None)
    wait_for(lambda: runs.frames > sum(LENGTHS) * 0.6)
    first.kill()
    said, _ = second.communicate(timeout=300)
    assert second.returncode == 0, said
    assert verify(str(tmp_path / "out")).sound
    assert Ledger(tmp_path / "out").table("embeddings").num_rows == sum(LENGTHS)
    assert 0 <= runs.frames - sum(LENGTHS) <= max(LENGTHS)
    assert not (tmp_path / "out" / "_runs").exists()


def test_leave(corpus, runs, tmp_path):
    first = runs.start(pace_s=0.05)
    wait_for(lambda: runs.frames > 0)
    (holder,) = live_runs(str(tmp_path / "out"))
    second = runs.start("--overlap", "leave")
    said, _ = second.communicate(timeout=300)
    assert first.poll() is None
    assert second.returncode == 0
    assert said.startswith(f"nothing done: left to run {holder} (process {first.pid} on ")
    assert ", since 2" in said
    assert first.communicate(timeout=300)[0]
    assert runs.frames == sum(LENGTHS)
    alone = run(probe(), [str(corpus)], tmp_path / "other", engine="local", overlap="leave")
    assert (alone.left_to, alone.frames) == ("", sum(LENGTHS))


def test_who_is_left_to_is_in_the_summary(corpus, tmp_path):
    output = str(tmp_path / "out")
    run(probe(), [str(corpus / "20.mp4")], output, engine="local")
    other = Lease(output, "other", "other work")
    other.open()
    summary = run(probe(), [str(corpus)], output, engine="local", overlap="leave")
    assert summary.left_to.startswith(f"run other (process {os.getpid()} on ")
    assert (summary.exit_code, summary.frames) == (0, 0)
    assert live_runs(output) == {"other"}
    # It goes on itself, and would not have left to one that is dead.
    other.close()
    assert run(probe(), [str(corpus)], output, engine="local", overlap="leave").videos_ok == 9
