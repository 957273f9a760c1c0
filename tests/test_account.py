"""The account of a run: whatever ends it, what it did and what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.account import as_markdown, cost, left_in_words
from pipeline.config import PriceConfig
from pipeline.engine.stats import Left
from pipeline.errors import ConfigError, RunAborted, UsageError
from pipeline.runner import run
from pipeline.storage import objects
from tests.engine.test_engines import probe
from tests.object_store import object_store
from tests.test_cli import ROOT, probe_run
from tests.videos import make


@pytest.fixture
def corpus(tmp_path) -> Path:
    for name, length in (("a.mp4", 12), ("b.mp4", 20)):
        make(tmp_path / "v" / name, length, width=64, height=48)
    return tmp_path / "v"


def told(folder: Path) -> tuple[dict[str, Any], str]:
    assert sorted(path.name for path in folder.iterdir()) == ["run.json", "run.md"]
    return json.loads((folder / "run.json").read_text()), (folder / "run.md").read_text()


def test_a_run_that_is_done(corpus, tmp_path):
    settings = probe(price={"per_hour": 3600, "currency": "EUR"})
    inputs, output, folder = [str(corpus)], tmp_path / "out", tmp_path / "new" / "report"
    summary = run(settings, inputs, output, engine="local", report=folder)
    record, text = told(folder)
    assert (record["exit_code"], record["error"], record["run_id"]) == (0, "", summary.run_id)
    assert record["videos"]["ok"] == 2
    assert (record["frames"], record["rows"]["embeddings"]) == (32, 32)
    assert record["left"]["videos"] == record["left"]["failed"] == 0
    # One unit a second, for all the time that the run took.
    money = record["cost"]
    assert money["total"] == pytest.approx(record["total_s"])
    assert money["per_1000_frames"] == pytest.approx(record["total_s"] / 32 * 1000)
    assert f"# Run {summary.run_id}" in text
    assert "EUR" in text
    assert "| left | nothing |" in text


def test_reasons_are_counted_by_kind(corpus, tmp_path):
    for number in range(3):
        (corpus / f"bad-{number}.mp4").write_text(f"no video {number}")
    os.mkfifo(corpus / "pipe.mp4")
    run(probe(), [str(corpus)], tmp_path / "out", engine="local", report=tmp_path / "r")
    record, text = told(tmp_path / "r")
    assert record["exit_code"] == 3
    assert [(one["failures"], one["stage"]) for one in record["failures"]] == [
        (3, "index"),
        (1, "discover"),
    ]
    assert record["failures"][0]["uri"].endswith("bad-0.mp4")
    assert record["left"]["failed"] == 4
    assert "4 videos that failed (--retry-failed tries them again)" in text
    again = run(probe(), [str(corpus)], tmp_path / "out", engine="local", report=tmp_path / "r")
    assert again.did_nothing
    record, _ = told(tmp_path / "r")
    assert (record["exit_code"], record["videos"]["failed_before"]) == (3, 4)
    assert record["videos"]["done_before"] == 2


def test_a_run_at_its_budget_says_what_it_leaves(corpus, tmp_path):
    folder = tmp_path / "r"
    run(probe(), [str(corpus)], tmp_path / "o", engine="local", budget_frames=5, report=folder)
    record, text = told(folder)
    assert (record["exit_code"], record["left"]["videos"]) == (0, 1)
    assert record["left"]["why"] == "its budget of 5 frames"
    assert "1 videos at its budget of 5 frames" in text
    assert "1 left at its budget of 5 frames" in record["text"]


def test_a_run_that_cannot_begin(corpus, tmp_path):
    with pytest.raises(ConfigError):
        run(tmp_path / "none.yaml", [str(corpus)], tmp_path / "o", report=tmp_path / "r")
    record, text = told(tmp_path / "r")
    assert (record["exit_code"], record["run_id"]) == (2, "")
    assert "none.yaml: cannot read the configuration" in record["error"]
    assert "# Run (not begun)" in text
    with pytest.raises(UsageError, match="--priority no: choose"):
        run(probe(), [str(corpus)], tmp_path / "o", priority="no", report=tmp_path / "r")
    assert told(tmp_path / "r")[0]["error"].startswith("--priority no")


def test_a_run_that_aborts(corpus, tmp_path):
    output = tmp_path / "o"
    run(probe(), [str(corpus / "a.mp4")], output, engine="local")
    (output / "_runs").write_text("in the way of leases")
    with pytest.raises(RunAborted):
        run(probe(), [str(corpus)], output, engine="local", report=tmp_path / "r")
    record, text = told(tmp_path / "r")
    assert (record["exit_code"], record["left"]["counted"]) == (1, False)
    assert "cannot write" in record["error"]
    assert "aborted (exit code 1)" in text
    assert "what was not looked at" in text


def test_a_run_that_is_stopped(tmp_path):
    for number in range(12):
        make(tmp_path / "v" / f"{number}.mp4", 200 + number, gop=50)
    command = [sys.executable, "-m", "pipeline", "run", "configs/probe.yaml", str(tmp_path / "v")]
    command += ["-o", str(tmp_path / "out"), "--engine", "local", "--report", str(tmp_path / "r")]
    process = subprocess.Popen(
        [*command, "--set", "commit.seconds=0.01"], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    while not (tmp_path / "out" / "videos" / "_delta_log" / f"{1:020d}.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(300) == 1
    record, _ = told(tmp_path / "r")
    assert (record["exit_code"], record["videos"]["failed"]) == (1, 0)
    assert record["error"].startswith("stopped from outside")
    assert 0 < record["videos"]["ok"] < 12


def test_on_a_store(corpus, tmp_path, monkeypatch):
    with object_store() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        folder = "s3://tables/reports"
        run(probe(), [str(corpus)], tmp_path / "o", engine="local", report=folder)
        assert json.loads(objects.read(f"{folder}/run.json"))["frames"] == 32
        assert objects.read(f"{folder}/run.md").startswith(b"# Run ")


def test_a_folder_that_cannot_be_made_is_said_before_anything_is_done(corpus, tmp_path):
    (tmp_path / "file").write_text("")
    done = probe_run(corpus, "-o", tmp_path / "o", "--report", tmp_path / "file" / "r")
    assert done.returncode == 2
    assert done.stderr == f"frameledger: --report {tmp_path / 'file' / 'r'}: Not a directory\n"
    assert not (tmp_path / "o").exists()


def test_one_that_cannot_be_written_at_the_end_is_a_note(corpus, tmp_path):
    (tmp_path / "r" / "run.json").mkdir(parents=True)
    (tmp_path / "r" / "run.json" / "x").write_text("")
    done = probe_run(corpus, "-o", tmp_path / "o", "--report", tmp_path / "r")
    assert done.returncode == 0
    assert f"note     --report {tmp_path / 'r'}: not written: Is a directory" in done.stdout


def test_names_break_no_table(corpus, tmp_path):
    (corpus / "a|b\n`c.mp4").write_text("no video")
    run(probe(), [str(corpus)], tmp_path / "out", engine="local", report=tmp_path / "r")
    record, text = told(tmp_path / "r")
    assert record["failures"][0]["uri"].endswith("a|b\n`c.mp4")
    (line,) = (line for line in text.splitlines() if "index |" in line)
    assert line.replace("\\|", "").count("|") == 5


def test_cost_of_nothing_has_no_rate():
    price = PriceConfig(per_hour=2.0)
    assert cost(price, 1800, 0) == {
        "currency": "USD",
        "per_hour": 2.0,
        "total": 1.0,
        "per_1000_frames": None,
    }
    assert cost(price, 1800, 4000)["per_1000_frames"] == 0.25


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (Left(), ""),
        (Left("its limit", 3, counted=False), "at least 3 videos at its limit"),
        (Left("", 0, 2), "2 videos that another run works on"),
        (
            Left("its budget of 6 h", 3, 0, True, 2, 1500),
            "3 videos at its budget of 6 h, of which 1,500 frames in 2 shards were planned",
        ),
    ],
)
def test_what_is_left_in_words(left, words):
    assert left_in_words(left) == words


def test_the_markdown_of_a_record_that_json_has_carried(corpus, tmp_path):
    run(probe(), [str(corpus)], tmp_path / "out", engine="local", report=tmp_path / "r")
    record, text = told(tmp_path / "r")
    assert as_markdown(record) == text
