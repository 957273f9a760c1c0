"""Two runs at once in one output: every row once, and hardly any work twice."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import nullcontext

import pytest

from pipeline import runner
from pipeline.ledger.alive import FOLDER, live_runs
from pipeline.ledger.leases import Lease
from pipeline.ledger.reader import Ledger
from pipeline.ledger.runs import read_runs
from pipeline.runner import make_job, run
from tests.engine.test_engines import assert_whole, probe
from tests.videos import make

LENGTHS = [200 + number for number in range(12)]


@pytest.fixture
def videos(tmp_path):
    for length in LENGTHS:
        make(tmp_path / "v" / f"{length}.mp4", length, gop=30)
    return str(tmp_path / "v")


def test_they_share_the_work(tmp_path, videos):
    command = [sys.executable, "-m", "pipeline", "run", "configs/probe.yaml", videos]
    command += ["-o", str(tmp_path / "out"), "--engine", "local"]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, said = process.communicate(timeout=600)
        assert process.returncode == 0, said
    assert_whole(tmp_path / "out", sum(LENGTHS))
    runs = read_runs(str(tmp_path / "out"))
    assert sum(one["frames"] for one in runs) == sum(LENGTHS)  # Taken once, whoever took it.
    assert Ledger(tmp_path / "out").table("videos", current=False).num_rows == len(LENGTHS)
    assert not (tmp_path / "out" / FOLDER).exists()


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_what_a_run_held_that_died_is_done_by_the_one_that_waits(request, tmp_path, videos, engine):
    if engine == "ray":
        request.getfixturevalue("ray_here")
    config = probe()
    work = ",".join(make_job(config, str(tmp_path / "out")).by_fingerprint())
    hold = (
        "import sys, time\nfrom pipeline.ledger.leases import Lease\n"
        "lease = Lease(sys.argv[1], 'other', sys.argv[2])\n"
        f"lease.take({videos + '/205.mp4'!r})\nprint('taken', flush=True)\ntime.sleep(4)\n"
    )
    command = [sys.executable, "-c", hold, str(tmp_path / "out"), work]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "taken\n"
    summary = run(config, [videos], tmp_path / "out", engine=engine)
    assert other.wait() == 0
    assert summary.videos_ok == len(LENGTHS)
    assert_whole(tmp_path / "out", sum(LENGTHS))


def test_what_another_run_releases_is_done_at_once(tmp_path, videos):
    """It is alive still, and may itself wait for what this one has."""
    config = probe()
    output = str(tmp_path / "out")
    other = Lease(output, "other", ",".join(make_job(config, output).by_fingerprint()))
    other.take(f"{videos}/205.mp4")

    class Releasing:
        """Lets go once this run waits for it."""

        def watching(self, stats):  # type: ignore[no-untyped-def]
            def let_go() -> None:
                while not stats.waiting_for:
                    time.sleep(0.01)
                other.release()

            threading.Thread(target=let_go, daemon=True).start()
            return nullcontext()

    summary = run(config, [videos], output, engine="local", progress=Releasing())
    assert summary.videos_ok == len(LENGTHS)
    assert live_runs(output) == {"other"}
    other.close()


def test_what_a_run_ends_while_another_begins_is_recorded_once(tmp_path, monkeypatch):
    """The other has read the books, and nobody holds anything any more when it comes to work."""
    broken, output, config = tmp_path / "broken.mp4", tmp_path / "out", probe()
    broken.write_bytes(b"no video at all")

    def open_corpus(*arguments, **options):  # type: ignore[no-untyped-def]
        monkeypatch.undo()
        found = runner.open_corpus(*arguments, **options)
        assert run(config, [str(broken)], output, engine="local").videos_failed == 1
        return found

    monkeypatch.setattr(runner, "open_corpus", open_corpus)
    assert run(config, [str(broken)], output, engine="local").videos_failed == 1
    ledger = Ledger(output)
    assert len(read_runs(str(output))) == 2
    for table in ("failures", "videos"):
        assert ledger.table(table, current=False).num_rows == 1
