"""A whole run on a device that is too small for its batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.demo.video import write_video
from pipeline.demo.world import World
from pipeline.ledger.reader import Ledger

CONFIG = """
sampling: {stride: 3}
detector: {backend: transformers, model: "builtin:detector", batch: 8}
embedder: {backend: clip, model: "builtin:clip", batch: 8}
"""
COLUMNS = {
    "frames": ["frame_index", "pts"],
    "detections": ["frame_index", "class_id", "x1", "y1", "x2", "y2", "score"],
    "embeddings": ["frame_index", "embedding"],
}


def small_device(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Models refuse larger batches with what a GPU raises."""
    from transformers import CLIPVisionModelWithProjection, RTDetrV2ForObjectDetection

    for model in (RTDetrV2ForObjectDetection, CLIPVisionModelWithProjection):
        original = model.forward

        def forward(self, pixel_values, *args, original=original, **kwargs):
            if len(pixel_values) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return original(self, pixel_values, *args, **kwargs)

        monkeypatch.setattr(model, "forward", forward)


def run(folder: Path, output: Path) -> tuple[int, str]:
    config = folder.parent / "config.yaml"
    config.write_text(CONFIG)
    arguments = ["run", str(config), str(folder), "--output", str(output), "--engine", "local"]
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, " ".join(result.output.split())


def place(row: dict) -> tuple:
    return row["video_id"], row["frame_index"], row.get("class_id"), -row.get("score", 0)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for seed, (width, height) in enumerate([(320, 240), (256, 160)]):
        write_video(folder / f"{width}.mp4", World(seed, width, height, 60), fps=30)
    return folder


def test_18_the_tables_are_the_same_and_the_run_says_what_it_did(videos, tmp_path, monkeypatch):
    assert run(videos, tmp_path / "plenty")[0] == 0
    small_device(monkeypatch, 3)
    code, said = run(videos, tmp_path / "little")
    assert code == 0
    for name in ("detector", "embedder"):
        assert f"{name}: out of memory with 8 frames of 320x240 at once, went on with 4" in said
        assert f"{name}: out of memory with 4 frames of 320x240 at once, went on with 2" in said
    plenty, little = Ledger(tmp_path / "plenty"), Ledger(tmp_path / "little")
    for table, columns in COLUMNS.items():
        one = plenty.table(table, columns=["video_id", *columns]).to_pylist()
        other = little.table(table, columns=["video_id", *columns]).to_pylist()
        assert len(one) == len(other) > 0
        for a, b in zip(sorted(one, key=place), sorted(other, key=place), strict=True):
            assert a.keys() == b.keys()
            for name, value in a.items():
                assert b[name] == pytest.approx(value, abs=1e-3), name


def test_18_where_not_even_one_frame_fits_the_video_fails_with_the_reason(
    videos, tmp_path, monkeypatch
):
    small_device(monkeypatch, 0)
    code, said = run(videos, tmp_path / "out")
    assert code == 3
    assert "out of memory with 1 frames of 320x240 at once: CUDA out of memory" in said
    failures = Ledger(tmp_path / "out").table("failures").to_pylist()
    assert {row["stage"] for row in failures} == {"analyze"}
