"""The command as a user types it: output, exit codes, and one line for every mistake."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.videos import make

ROOT = Path(__file__).parents[1]
HOOK = ROOT / "tests" / "chaos" / "hook"


def frameledger(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, check=False
    )


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("v") / "a.mp4", 40, gop=10)


def probe_run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return frameledger("run", "configs/probe.yaml", *arguments, "--engine", "local")


def test_help_is_quick():
    """By its CPU time, which is its time on a machine that does nothing else."""
    times = []
    for _ in range(3):
        before = os.times()
        assert "run" in frameledger("--help").stdout
        after = os.times()
        times.append(sum(after[2:4]) - sum(before[2:4]))
    assert 0 < min(times) < 0.5


def test_models_are_loaded_and_told():
    done = frameledger("models", "configs/demo.yaml")
    assert done.returncode == 0
    assert "RTDetrV2ForObjectDetection, 601,942 parameters, on cpu" in done.stdout
    assert "classes   18: red circle, red square" in done.stdout
    assert "CLIPVisionModelWithProjection" in done.stdout
    assert "weights_sha256" in done.stdout
    nothing = frameledger("models", "configs/demo.yaml", "--set", "detector.model=nowhere")
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert nothing.stderr.count("\n") == 1
    assert "no such folder" in nothing.stderr


def test_the_documented_names_stay_what_they_are():
    import pipeline
    import pipeline.runner

    for _ in range(2):
        from pipeline import Ledger, run

        assert callable(pipeline.run)
        assert run is pipeline.runner.run
        assert Ledger is pipeline.Ledger


def test_run_plan_status_verify(video, tmp_path):
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    plan = frameledger("plan", "configs/probe.yaml", video, "--output", out)
    assert "1 new" in plan.stdout
    assert "40 frames in 2 clips, 1 shards" in plan.stdout
    assert not out.exists()

    done = probe_run(video, "--output", out, "--json", figures)
    assert done.returncode == 0, done.stderr
    assert "40 frames, 40 embeddings" in done.stdout
    assert json.loads(figures.read_text())["frames"] == 40

    again = probe_run(video, "--output", out)
    assert again.returncode == 0
    assert "nothing to do" in again.stdout
    assert "1 done" in frameledger("plan", "configs/probe.yaml", video, "-o", out).stdout
    assert "40 rows in embeddings" in frameledger("status", out).stdout
    (line,) = frameledger("runs", out).stdout.splitlines()
    assert "exit 0 after" in line
    assert "1 ok, 0 partial, 0 failed, 40 frames" in line
    assert frameledger("runs", tmp_path).returncode == 2
    planned = frameledger("plan", "configs/probe.yaml", video, "-o", out, "--set", "clip.length=9")
    assert "frames/s, as an earlier run of other analyses made" in planned.stdout
    audit = frameledger("verify", out)
    assert (audit.returncode, audit.stdout.startswith("sound")) == (0, True)


def test_gc_deep_verify_and_history(video, tmp_path):
    out = tmp_path / "out"
    assert probe_run(video, "--output", out).returncode == 0
    said = frameledger("gc", out, "--dry-run")
    assert (said.returncode, said.stdout.splitlines()[-1]) == (0, "nothing to clean up")
    (out / "frames" / "part-9.parquet").write_bytes(b"xyz")
    assert "unreferenced: 1 files (0.0 KiB)" in frameledger("verify", out).stdout
    done = frameledger("gc", out, "--grace", 0)
    assert "remove   frames: 0 superseded, 1 orphaned files (0.0 KiB)" in done.stdout
    deep = frameledger("verify", out, "configs/probe.yaml", "--deep", "--sample", 5)
    assert deep.returncode == 0, deep.stderr
    # Chosen at random, and a frame that is chosen twice is made once.
    assert re.search(r"made again: ([1-5]) frames of 1 videos, \1 embeddings", deep.stdout)
    early = frameledger("status", out, "--as-of", "2001-01-01")
    assert (early.returncode, early.stderr.count("\n")) == (2, 1)
    assert "is before the first commit" in early.stderr
    assert "1 ok" in frameledger("status", out, "--as-of", "2999-01-01").stdout
    wrong = frameledger("verify", out, "configs/probe.yaml")
    assert (wrong.returncode, "is for --deep" in wrong.stderr) == (2, True)


def test_a_failure_is_listed_and_the_exit_code_says_so(video, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_text("text")
    done = probe_run(video, bad, "--output", tmp_path / "out")
    assert done.returncode == 3
    assert f"{bad}: index: not a video" in done.stdout
    assert "1 ok" in done.stdout


def test_verify_names_the_offending_rows(video, tmp_path):
    import deltalake

    probe_run(video, "--output", tmp_path / "out")
    table = deltalake.DeltaTable(str(tmp_path / "out" / "embeddings"))
    table.delete("frame_index = 7")
    audit = frameledger("verify", tmp_path / "out")
    assert audit.returncode == 3
    assert "NOT SOUND" in audit.stdout
    assert "7" in audit.stdout.splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("run", "none.yaml", "VIDEO", "-o", "OUT"), "none.yaml: cannot read the configuration"),
        (("run", "configs/probe.yaml", "VIDEO"), "no output given"),
        (("run", "configs/probe.yaml", "-o", "OUT"), "no input given"),
        (("run", "configs/probe.yaml", "missing.mp4", "-o", "OUT"), "missing.mp4: no such file"),
        (("run", "configs/probe.yaml", "EMPTY", "-o", "OUT"), "no videos in"),
        (("run", "configs/probe.yaml", "VIDEO", "-o", "VIDEO"), "is a file; name a folder"),
        (
            ("run", "configs/probe.yaml", "VIDEO", "-o", "OUT", "--set", "clip.lenght=3"),
            "unknown key clip.lenght",
        ),
        (
            ("run", "configs/demo.yaml", "VIDEO", "-o", "OUT", "--set", "detector.model=./gone"),
            "./gone",
        ),
        (("run", "configs/probe.yaml", "VIDEO", "-o", "OUT", "--engine", "spark"), "spark"),
        (
            ("run", "configs/probe.yaml", "VIDEO", "-o", "OUT", "--budget", "6"),
            "--budget 6: not a length of time such as 6h",
        ),
        (
            ("run", "configs/probe.yaml", "VIDEO", "-o", "OUT", "--priority", "first"),
            "--priority first: choose discovery, newest, oldest, stale-first",
        ),
        (
            ("run", "configs/probe.yaml", "VIDEO", "-o", "OUT", "--overlap", "no"),
            "--overlap no: choose share or leave",
        ),
        (("status", "EMPTY"), "is no frameledger output"),
        (("verify", "nowhere"), "is no frameledger output"),
        (("demo", "--output", "VIDEO"), "is a file; name a folder"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(video, tmp_path, arguments, expected):
    (tmp_path / "empty").mkdir()
    places = {"VIDEO": video, "OUT": tmp_path / "out", "EMPTY": tmp_path / "empty"}
    done = frameledger(*[places.get(a, a) for a in arguments])
    assert done.returncode == 2, done.stdout + done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_stopping_keeps_what_is_whole(tmp_path, how):
    """A stopped run says so, and the next one does just the rest."""
    for number in range(12):
        make(tmp_path / "v" / f"{number}.mp4", 200 + number, gop=50)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pipeline", "run", "configs/probe.yaml", str(tmp_path / "v")]
    options = ["--output", str(out), "--engine", "local", "--set", "commit.seconds=0.01"]
    # However late the signal comes on a busy machine, the run is not at its end.
    (tmp_path / "out.faults").mkdir()
    (tmp_path / "out.faults" / "faults.json").write_text(json.dumps({"pace_s": 0.05}))
    slowed = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (HOOK, ROOT)))}
    process = subprocess.Popen(
        [*command, *options], cwd=ROOT, env=slowed, stderr=subprocess.PIPE, text=True
    )
    while not (out / "videos" / "_delta_log" / "00000000000000000001.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(how)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "stopped; what was committed is kept" in errors
    assert "Traceback" not in errors
    rest = probe_run(tmp_path / "v", "--output", out)
    assert rest.returncode == 0
    assert "0 were done before" not in rest.stdout
    audit = frameledger("verify", out)
    assert f"{sum(200 + n for n in range(12))} frames" in audit.stdout.replace(",", "")
    assert audit.returncode == 0
