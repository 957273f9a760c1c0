"""The table of models: its rows, its arithmetic, and one with a tiny model and without Ray."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest

from benchmarks.analyzing import Fed, InRun
from benchmarks.full_size import MODELS
from benchmarks.gpu import Busy
from benchmarks.models import Result, Row, rows_for, table_of, video_for

ROW = Row("CLIP ViT-B/32", 720, "bf16", batch=64, clip=64, frames=1024)


def test_the_rows_follow_the_device():
    cpu = rows_for("cpu")
    assert [(row.model, row.height, row.precision) for row in cpu] == [
        ("CLIP ViT-B/32", 720, "fp32"),
        ("Faster R-CNN R50-FPN (Detectron2)", 720, "fp32"),
    ]
    gpu = rows_for("cuda")
    assert {(row.model, row.height) for row in gpu} == {(m, h) for m in MODELS for h in (720, 1080)}
    assert {row.precision for row in gpu} == {"bf16"}
    assert rows_for("cpu", every=True) == gpu
    # Else the last batch of a clip, or the last clip, would be smaller than the tight loop's.
    assert all(row.clip % row.batch == 0 == row.frames % row.clip for row in cpu + gpu)


def test_a_shortened_row_keeps_its_batches_full():
    short = ROW.shortened(2)
    assert (short.frames, short.clip, short.batch) == (2, 2, 2)
    assert ROW.shortened(4096) == ROW


def test_the_columns_of_a_gpu_are_there_where_one_was_fed():
    run = InRun(90.0, {}, ())
    plain = Result(ROW, single=30.0, run=run, ceiling=120.0, fed=None)
    assert plain.share == pytest.approx(0.75)
    header, _, line = table_of([plain]).splitlines()
    assert "GPU busy" not in header
    assert line == "| CLIP ViT-B/32 | 720p | bf16 | 64 | 30.00 | 90.00 | 120.00 | 0.75 |"
    fed = Fed(100.0, busy=0.914, memory=(3 * 2**20, 2**30))
    header, _, line = table_of([Result(ROW, 30.0, run, 120.0, fed)]).splitlines()
    assert header.count("|") == line.count("|")
    assert line.endswith("| 0.75 | 100.00 | 91% | 3 / 1,024 |")


def test_busy_is_the_mean_of_the_samples():
    taken: list[float] = []

    def read() -> float:
        taken.append(100.0 if len(taken) % 2 else 50.0)
        return taken[-1]

    with Busy(read, period_s=0.001) as busy:
        while len(taken) < 4:
            time.sleep(0.001)
    assert busy.share == pytest.approx(sum(taken) / len(taken) / 100)
    with Busy(None) as busy:
        pass
    assert busy.share is None


def test_a_video_has_the_frames_of_its_row(tmp_path):
    for frames, expected in ((8, 256), (256, 256), (512, 512)):
        video, count = video_for(Row("", 32, "fp32", batch=8, clip=8, frames=frames), tmp_path)
        with av.open(str(video)) as container:
            assert sum(1 for _ in container.decode(video=0)) == count == expected


def test_a_table_without_ray(tmp_path):
    command = [sys.executable, "-m", "tests.benchmarks.without_ray", str(tmp_path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stderr
    assert "missing is left out: its library is not installed" in done.stdout
    (row,) = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert row["share"] == pytest.approx(row["run"]["rate"] / row["ceiling"])
    assert row["single"] > 0
    assert row["fed"]["rate"] > 0
    assert row["fed"]["busy"] is None
    assert row["run"]["steps_s"]["embedder.forward"] > 0
