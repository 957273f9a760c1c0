"""Which videos come first."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.ledger.reader import Ledger
from pipeline.priority import Backlog, check_priority
from pipeline.records import Source
from pipeline.runner import run
from tests.engine.test_engines import probe
from tests.object_store import object_store
from tests.videos import make

AGES = {"a.mp4": 3, "b.mp4": 1, "c.mp4": 4, "d.mp4": 0, "e.mp4": 2}
"""Days since each was written."""


def age(path: Path, days: int) -> None:
    os.utime(path, (1.7e9 - days * 86400,) * 2)


@pytest.fixture
def corpus(tmp_path) -> Path:
    for number, (name, days) in enumerate(AGES.items()):
        age(make(tmp_path / "v" / name, 8 + number, width=64, height=48), days)
    return tmp_path / "v"


def order(output: Path) -> list[str]:
    """Names in the order in which they ended."""
    found = Ledger(output).table("videos", current=False).sort_by("recorded_at")
    return [Path(uri).name for uri in found.column("uri").to_pylist()]


@pytest.mark.parametrize(
    ("priority", "expected"),
    [
        ("discovery", ["a.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4"]),
        ("newest", ["d.mp4", "b.mp4", "e.mp4", "a.mp4", "c.mp4"]),
        ("oldest", ["c.mp4", "a.mp4", "e.mp4", "b.mp4", "d.mp4"]),
    ],
)
def test_by_time(corpus, tmp_path, priority, expected):
    output = tmp_path / "out"
    run(probe(), [str(corpus)], output, engine="local", priority=priority, limit=2)
    assert order(output) == expected[:2]
    run(probe(), [str(corpus)], output, engine="local", priority=priority)
    assert order(output) == expected


def test_stale_first(corpus, tmp_path):
    """What lacks rows of the new model, then what has changed, then what is new."""
    output = tmp_path / "out"
    old = [str(corpus / name) for name in ("b.mp4", "c.mp4", "e.mp4")]
    run(probe(), old, output, engine="local")
    make(corpus / "b.mp4", 30, width=64, height=48)
    settings = probe(sampling={"stride": 2})
    run(settings, [str(corpus)], output, engine="local", priority="stale-first")
    assert order(output)[3:] == ["c.mp4", "e.mp4", "b.mp4", "a.mp4", "d.mp4"]


def test_those_that_are_equal_stay_in_the_order_of_discovery():
    backlog = Backlog("newest")
    for number in range(5000):
        backlog.add(Source(f"/{number}", "s", number, float(number % 3)), "new")
    got = [source for batch in backlog.in_order() for source in batch]
    assert [s.size_bytes for s in got] == sorted(range(5000), key=lambda n: (-(n % 3), n))
    assert got[0] == Source("/2", "s", 2, 2.0)


def test_what_changes_while_it_waits_is_taken_as_it_is(corpus, tmp_path, monkeypatch):
    from pipeline import resume

    again = resume.look_again

    def late(sources):
        make(corpus / "b.mp4", 30, width=64, height=48)
        return again(sources)

    monkeypatch.setattr(resume, "look_again", late)
    summary = run(probe(), [str(corpus)], tmp_path / "out", engine="local", priority="newest")
    assert (summary.videos_ok, summary.videos_failed) == (5, 0)
    assert summary.frames == 8 + 30 + 10 + 11 + 12


def test_one_that_is_gone_by_its_turn_is_passed_over(corpus, tmp_path, monkeypatch):
    from pipeline import resume

    again = resume.look_again

    def late(sources):
        (corpus / "e.mp4").unlink(missing_ok=True)
        return again(sources)

    monkeypatch.setattr(resume, "look_again", late)
    summary = run(probe(), [str(corpus)], tmp_path / "out", engine="local", priority="oldest")
    assert (summary.videos_ok, summary.videos_failed) == (4, 0)
    assert "e.mp4" not in order(tmp_path / "out")


def test_on_a_store(corpus, tmp_path, monkeypatch):
    """By the store's own times; what was replaced since it was listed is taken as it is."""
    from pipeline import resume

    with object_store() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        for name in ("c.mp4", "a.mp4", "b.mp4"):
            server.put("corpus", f"v/{name}", corpus / name)
            time.sleep(1.1)  # Its clock has seconds.
        again = resume.look_again

        def late(sources):
            server.put("corpus", "v/b.mp4", corpus / "e.mp4")
            server.delete("corpus", "v/a.mp4")
            return again(sources)

        monkeypatch.setattr(resume, "look_again", late)
        settings, inputs = probe(), ["s3://corpus/v"]
        summary = run(settings, inputs, tmp_path / "o", engine="local", priority="oldest")
    assert (summary.videos_ok, summary.videos_failed) == (2, 0)
    assert order(tmp_path / "o") == ["c.mp4", "b.mp4"]
    assert summary.frames == 10 + 12


def test_what_there_is_not_is_refused():
    with pytest.raises(UsageError, match="--priority random: choose discovery, newest, oldest"):
        check_priority("random")


def test_memory_is_bounded_by_names():
    """A hundred thousand videos that are due take less than 250 bytes each."""
    code = """
import resource
from pipeline.priority import Backlog
from pipeline.records import Source
import numpy, pyarrow
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
def fill(count):
    backlog = Backlog("newest")
    for n in range(count):
        name = f"/mnt/videos/2026/camera-{n % 100:03}/recording-{n:08}.mp4"
        backlog.add(Source(name, f"{n}:{n * 10**9}", n, float(-n)), "new")
    return sum(len(batch) for batch in backlog.in_order())
fill(2000)
before = peak()
assert fill(100_000) == 100_000
print((peak() - before) / 100_000)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 250
