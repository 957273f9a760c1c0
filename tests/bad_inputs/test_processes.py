"""Full disks, killed drivers, runs at once, and what a changed configuration redoes: 16, 21 to 23.

Case 18 is in tests/test_out_of_memory.py; 17, 19 and 20 belong to the engine and its watchdog.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.ledger.reader import Ledger
from pipeline.ledger.verify import verify
from pipeline.runner import run
from tests.bad_inputs.checking import config_of
from tests.engine.test_engines import assert_equal_tables, rows
from tests.videos import make

FRAMES = {f"{number}.mp4": 300 + number for number in range(5)}
TOTAL = sum(FRAMES.values())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for name, count in FRAMES.items():
        make(folder / name, count, gop=30)
    return folder


@pytest.fixture(scope="module")
def clean(corpus, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("clean") / "out"
    assert run(config_of(clip={"length": 32}), [str(corpus)], output, engine="local").exit_code == 0
    return output


def arguments(corpus: Path, output: Path, *more: str) -> list[str]:
    settings = ["--set", "clip.length=32", "--set", "commit.seconds=0.05"]
    where = [str(corpus), "-o", str(output), "--engine", "local"]
    return ["run", "configs/probe.yaml", *where, *settings, *more]


LIMITED = """
import resource, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from pipeline.cli import main
main()
"""


@pytest.mark.parametrize("kib", [4, 8, 12])
def test_16_a_full_disk(corpus, clean, tmp_path, kib):
    """No file may grow beyond so much, as on a disk that is full: a table, its log or its rows
    cannot be written. (An object store that refuses is no case here: outputs are local.)"""
    output = tmp_path / "out"
    command = [sys.executable, "-c", LIMITED, str(kib * 1024), *arguments(corpus, output)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
    said = [line for line in ended.stderr.splitlines() if line.startswith("frameledger: ")]
    # The smallest of these disks have no room for the tables, or for a commit.
    assert ended.returncode in {4: (1, 2), 8: (1, 2)}.get(kib, (0, 1))
    if ended.returncode != 0:
        (line,) = said
        assert f"output {output}" in line
        assert "File too large" in line
        assert line.isprintable()
    assert "Traceback" not in ended.stderr
    if (output / "videos").exists() and (output / "videos" / "_delta_log").exists():
        assert [str(finding) for finding in verify(str(output)).findings] == []
    left = run(config_of(clip={"length": 32}), [str(corpus)], output, engine="local")
    assert left.exit_code == 0
    assert_equal_tables(clean, output)
    assert verify(str(output)).sound


def test_21_a_driver_killed_at_any_moment(corpus, clean, tmp_path):
    output = tmp_path / "out"
    rng = random.Random(21)
    landed = [0]
    for _ in range(5):
        command = [sys.executable, "-m", "pipeline", *arguments(corpus, output)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(output / "frames", process)
        time.sleep(rng.uniform(0.05, 0.6))
        process.kill()
        process.wait()
        if (output / "videos" / "_delta_log").exists():
            assert [str(finding) for finding in verify(str(output)).findings] == []
            # What had landed stays as it was.
            landed.append(Ledger(output).table("frames").num_rows)
    assert landed == sorted(landed)
    rest = run(config_of(clip={"length": 32}), [str(corpus)], output, engine="local")
    assert rest.frames + landed[-1] >= TOTAL
    assert rest.rows.get("frames", 0) == TOTAL - landed[-1]
    assert rest.exit_code == 0
    assert_equal_tables(clean, output)
    assert verify(str(output)).sound


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Until a process has come as far as to make a file, or has ended."""
    deadline = time.monotonic() + 300
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)


def test_22_two_runs_on_one_output(corpus, clean, tmp_path):
    output = tmp_path / "out"
    command = [sys.executable, "-m", "pipeline", *arguments(corpus, output)]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=900) for process in both] == [0, 0]
    for table in ("frames", "embeddings"):
        assert rows(clean, table).equals(rows(output, table)), table
    # Both said how each video ended; the latest counts.
    ended = [row["status"] for row in Ledger(output).videos().to_pylist()]
    assert ended == ["ok"] * len(FRAMES)
    report = verify(str(output))
    assert [str(finding) for finding in report.findings] == []
    assert report.counts["frames"] == report.counts["embeddings"] == TOTAL


@pytest.mark.parametrize(
    "changed",
    [
        {"engine": {"attempts": 7}},
        {"commit": {"bytes": 1000}},
        {"memory": {"limit": "4GiB"}},
        {"decode": {"threads": 2, "max_frames": 10**6, "max_duration": 10**6}},
        {"decode": {"max_pixels": 10**6, "max_corrupt": 5, "max_memory": "2GiB"}},
        {"links": "anywhere"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_23_what_changes_no_row_redoes_nothing(corpus, clean, changed):
    config = config_of(clip={"length": 32}, **changed)
    summary = run(config, [str(corpus)], clean, engine="local")
    assert summary.did_nothing
    assert summary.videos_done_before == len(FRAMES)


def test_23_another_model_or_sampling_redoes_what_is_stale(tmp_path):
    path = make(tmp_path / "a.mp4", 40, gop=10)
    output = tmp_path / "out"
    detector = {"backend": "transformers", "model": "builtin:detector", "batch": 4}
    models = {"detector": detector, "sampling": {"stride": 4}, "clip": {"length": 4}}
    first = run(config_of(**models), [str(path)], output, engine="local")
    assert set(first.rows) == {"frames", "detections", "embeddings"}
    # Another embedder: the frames and detections stay.
    models["embedder"] = {"backend": "clip", "model": "builtin:clip"}
    second = run(config_of(**models), [str(path)], output, engine="local")
    assert {table for table, count in second.rows.items() if count} == {"embeddings"}
    assert second.rows["embeddings"] == 10
    # Other batches: nothing.
    models["detector"] = {**detector, "batch": 2}
    models["embedder"] = {**models["embedder"], "batch": 3}
    assert run(config_of(**models), [str(path)], output, engine="local").did_nothing
    assert verify(str(output)).sound
