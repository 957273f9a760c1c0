"""Every run that had work to do is on record, however it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from pipeline.config_file import parse_config
from pipeline.errors import RunAborted
from pipeline.ledger.reader import Ledger
from pipeline.ledger.runs import past_rate, read_runs
from pipeline.runner import run
from tests.videos import make

CONFIG = {"embedder": {"backend": "probe"}, "engine": {"name": "local"}}


def test_a_run_and_what_came_of_it(tmp_path):
    make(tmp_path / "v" / "a.mp4", 20)
    (tmp_path / "v" / "b.mp4").write_text("no video")
    output = str(tmp_path / "out")
    summary = run(parse_config(CONFIG, where="test"), [str(tmp_path / "v")], output)
    (found,) = read_runs(output)
    assert (found["run_id"], found["state"], found["exit_code"]) == (summary.run_id, "ended", 3)
    assert (found["videos_ok"], found["videos_failed"], found["frames"]) == (1, 1, 20)
    assert found["inputs"] == [str(tmp_path / "v")]
    assert found["ended_at"] > found["started_at"]
    assert json.loads(found["config"])["embedder"] == {"backend": "probe"}
    assert "pyarrow" in json.loads(found["versions"])
    assert sorted(found["worked"]) == sorted(found["analyses"])
    assert past_rate([found], set(found["worked"])) == (20 / found["steady_s"], True)
    # Nothing to do: nothing to record.
    run(parse_config(CONFIG, where="test"), [str(tmp_path / "v")], output)
    assert len(read_runs(output)) == 1


def test_a_run_that_was_killed_is_on_record_as_died(tmp_path):
    make(tmp_path / "v" / "a.mp4", 3000)
    output = tmp_path / "out"
    command = [sys.executable, "-m", "pipeline", "run", "configs/probe.yaml", str(tmp_path / "v")]
    process = subprocess.Popen([*command, "-o", str(output), "--engine", "local"])
    deadline = time.monotonic() + 300
    while not read_runs(str(output)) and time.monotonic() < deadline:
        time.sleep(0.05)
    (found,) = read_runs(str(output))
    assert found["state"] == "running"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (found,) = read_runs(str(output))
    assert (found["state"], found["ended_at"], found["exit_code"]) == ("died", None, None)


def test_an_error_that_ended_a_run_is_on_record(tmp_path):
    data = CONFIG | {"engine": {"name": "local", "same_failures": 2}}
    paths = [tmp_path / f"{number}.mp4" for number in range(3)]
    for path in paths:
        path.symlink_to("/proc/self/mem")  # Reading it is an input/output error.
    with pytest.raises(RunAborted, match=r"2 videos in a row failed for one reason.*Input/output"):
        run(parse_config(data, where="test"), [str(p) for p in paths], tmp_path / "out")
    (found,) = read_runs(str(tmp_path / "out"))
    assert (found["exit_code"], found["state"]) == (1, "ended")
    assert "for one reason" in found["error"]
    assert Ledger(tmp_path / "out").table("failures").num_rows == 0


def row(worked: list[str], frames: int, steady_s: float) -> dict[str, object]:
    return {"worked": worked, "frames": frames, "steady_s": steady_s}


def test_the_past_is_taken_from_the_run_most_like_it():
    all_three = row(["d", "e", "f"], 100, 10.0)
    embedder, newer = row(["e"], 100, 2.0), row(["e"], 100, 4.0)
    runs = [embedder, newer, all_three, row(["e"], 0, 0.0)]
    assert past_rate(runs, {"e"}) == (25.0, True)
    assert past_rate(runs, {"d", "e"}) == (10.0, True)
    assert past_rate(runs, {"g"}) == (10.0, False)
    assert past_rate([], {"e"}) is None
