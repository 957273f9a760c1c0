"""PyTorch sees every frame that matches once, as the video has it, whoever its worker is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from pipeline import Ledger, Where
from pipeline.demo.pattern import read_index
from pipeline.errors import UsageError, VideoError
from pipeline.results.frames_dataset import FramesDataset, Sample, collate
from tests.results.reading import made_up, over_videos

ALL = ("red circle", "blue square")


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> str:
    return over_videos(tmp_path_factory.mktemp("dataset"))


def check(sample: Sample, ledger: Ledger, classes: tuple[str, ...] = ALL) -> tuple[str, int]:
    """Its pixels are those of its frame, the rest as the ledger has it."""
    frame = ledger.frame(sample.video_id, sample.frame_index)
    assert sample.pixels.dtype == torch.uint8
    assert tuple(sample.pixels.shape) == (3, frame.row["height"], frame.row["width"])
    assert read_index(sample.pixels.permute(1, 2, 0).numpy()) == sample.frame_index
    assert sample.embedding.tolist() == frame.embedding.tolist()  # type: ignore[union-attr]
    rows = [row for row in frame.detections.to_pylist() if row["class_name"] in classes]
    assert sample.boxes.tolist() == [
        [row[side] for side in ("x1", "y1", "x2", "y2")] for row in rows
    ]
    assert sample.scores.tolist() == [row["score"] for row in rows]
    assert sample.class_ids.tolist() == [row["class_id"] for row in rows]
    assert sample.pts_s == frame.row["pts_s"]
    return sample.video_id, sample.frame_index


def test_samples_are_the_frames_that_match(output: str) -> None:
    ledger = Ledger(output)
    for where in (None, Where(video="b.mp4", classes=("blue square",))):
        classes = where.classes if where else ALL
        found = [check(sample, ledger, classes) for sample in ledger.frames_dataset(where)]
        assert found == [(f.video_id, f.frame_index) for f in ledger.frames(where)]
        assert found


def test_workers_share_the_frames_without_overlap(output: str) -> None:
    ledger = Ledger(output)
    dataset = FramesDataset(ledger, cut_frames=10)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    found = [check(sample, ledger) for sample in loader]
    expected = [(f.video_id, f.frame_index) for f in ledger.frames()]
    assert sorted(found) == expected
    assert found != expected  # both workers had a part


def test_forked_workers_are_refused(output: str) -> None:
    """Arrow's threads would wait for one another forever."""
    dataset = Ledger(output).frames_dataset()
    loader = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context="fork")
    with pytest.raises(UsageError, match=r"multiprocessing_context=.spawn"):
        next(iter(loader))


def test_batches_stack_what_has_one_shape(output: str) -> None:
    dataset = Ledger(output).frames_dataset(Where(video="a.mp4"))
    batch = next(iter(DataLoader(dataset, batch_size=4, collate_fn=collate)))
    assert batch.pixels.shape == (4, 3, 96, 128)
    assert batch.embedding.shape == (4, 8)
    assert [len(boxes) for boxes in batch.boxes] == [0, 1, 2, 0]
    assert batch.frame_index == [0, 2, 4, 6]
    assert np.all(np.diff(batch.pts_s) > 0)


def test_a_video_that_is_gone_is_named(tmp_path) -> None:
    dataset = Ledger(made_up(tmp_path / "o")).frames_dataset(Where(video="a.mp4"))
    with pytest.raises(VideoError, match=r"video /videos/a\.mp4: .*No such file"):
        next(iter(dataset))
