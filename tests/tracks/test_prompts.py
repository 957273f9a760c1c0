"""Prompts by hand: what a file may say, and what is said of one that may not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pycocotools import mask as coco

from pipeline.errors import UsageError
from pipeline.tracks.prompts import Prompt, load_prompts, run_lengths

CLASSES = {"red circle": 0, "green square": 4}


def rle(mask: np.ndarray) -> dict[str, Any]:
    encoded = coco.encode(np.asfortranarray(mask))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def disc() -> np.ndarray:
    y, x = np.mgrid[:48, :64]
    return ((x - 30) ** 2 + (y - 20) ** 2 < 100).astype(np.uint8)


def rows() -> list[dict[str, Any]]:
    return [
        {"video": "lobby-*.mp4", "frame": 120, "class": "red circle", "box": [12, 30, 80.5, 96]},
        {"video": "a.mp4", "frame": 0, "class": "green square", "points": [[4, 5, 1], [9, 9, 0]]},
        {"video": "a.mp4", "frame": 7, "class": "green square", "mask": rle(disc())},
    ]


def written(folder: Path, data: Any, name: str = "prompts.yaml") -> Path:
    path = folder / name
    path.write_text(json.dumps(data) if name.endswith("json") else yaml.safe_dump(data))
    return path


@pytest.mark.parametrize("name", ["prompts.yaml", "prompts.json"])
def test_boxes_points_and_masks(tmp_path: Path, name: str) -> None:
    box, points, mask = load_prompts(written(tmp_path, rows(), name))
    assert box.frame == 120
    assert box.prompt(CLASSES) == Prompt(0, box=(12, 30, 80.5, 96))
    assert points.prompt(CLASSES) == Prompt(4, points=((4, 5, 1), (9, 9, 0)))
    found = mask.prompt(CLASSES)
    assert found.mask is not None
    assert np.array_equal(found.mask, disc())
    assert found.around() == (21, 11, 40, 30)
    assert points.prompt(CLASSES).around() == (3, 4, 5, 6)


@pytest.mark.parametrize(
    ("pattern", "uri", "meant"),
    [
        ("lobby-*.mp4", "/videos/lobby-1.mp4", True),
        ("lobby-*.mp4", "s3://bucket/lobby-1.mp4", True),
        ("lobby-1.mp4", "/videos/lobby-1.mp4", True),
        ("/videos/lobby-1.mp4", "/videos/lobby-1.mp4", True),
        ("lobby-1.mp4", "/videos/lobby-10.mp4", False),
        ("take[1].mp4", "take[1].mp4", True),
    ],
)
def test_which_video_is_meant(tmp_path: Path, pattern: str, uri: str, meant: bool) -> None:
    (row,) = load_prompts(written(tmp_path, [{**rows()[0], "video": pattern}]))
    assert row.is_for(uri) is meant


def test_a_mask_in_the_models_square() -> None:
    square = Prompt(0, mask=disc()).mask_of(32)
    assert square.shape == (1, 1, 32, 32)
    assert set(square.unique().tolist()) == {0.0, 1.0}
    # Half of the columns, two thirds of the rows.
    assert float(square.sum()) == pytest.approx(disc().sum() / 2 * 2 / 3, rel=0.05)
    same = Prompt(0, mask=np.eye(8, dtype=np.uint8)).mask_of(8)
    assert torch.equal(same[0, 0], torch.eye(8))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt(0, mask=disc()), "a mask of 64x48 in a picture of 80x60"),
        (
            Prompt(0, box=(80, 10, 90, 20)),
            "an object about 80, 10 is outside of a picture of",
        ),
        (Prompt(0, points=((3, 99, 1),)), "an object about 2, 98 is outside"),
        (Prompt(0, box=(70, 50, 90, 80)), None),
    ],
)
def test_a_prompt_has_to_be_of_its_picture(prompt: Prompt, message: str | None) -> None:
    if message is None:
        prompt.check((80, 60))
        return
    with pytest.raises(UsageError, match=message):
        prompt.check((80, 60))


def broken(**given: Any) -> dict[str, Any]:
    row = {**rows()[0], **given}
    return {key: value for key, value in row.items() if value is not None}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"a": 1}, "a list of prompts is expected, each with video, frame and class"),
        ([], "a list of prompts is expected"),
        (["x"], "prompt 1: Input should be a valid dictionary"),
        ([broken(frame=None)], "prompt 1, frame is missing"),
        ([rows()[0], broken(frame=-1)], "prompt 2, frame: Input should be greater than or equal"),
        ([broken(Box=[1])], "prompt 1, Box: unknown key"),
        ([broken(box=[1, 2, 3])], "prompt 1, box.3 is missing"),
        ([broken(box=None)], "prompt 1: give one of box, points and mask, not none"),
        (
            [broken(points=[[1, 2, 1]])],
            "prompt 1: give one of box, points and mask, not box and points",
        ),
        ([broken(box=[30, 2, 20, 5])], "prompt 1: box [30.0, 2.0, 20.0, 5.0] is empty"),
        ([broken(box=None, points=[[1, 2, 0]])], "prompt 1: points: one of them at least"),
        ([broken(box=None, points=[[1, 2, 2]])], "prompt 1, points.0.2: Input should be less"),
        ([broken(box=None, mask=rle(np.zeros((4, 4), np.uint8)))], "prompt 1: mask has no pixel"),
        (
            [broken(box=None, mask={"size": [4, 4], "counts": "0"})],
            "prompt 1: mask: the counts are damaged",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, data: Any, message: str) -> None:
    path = written(tmp_path, data)
    with pytest.raises(UsageError) as caught:
        load_prompts(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the prompts: No such file"):
        load_prompts(tmp_path / "none.yaml")
    for name, text in (("a.yaml", "a: [1"), ("a.json", "[1,"), ("b.yaml", "\x00")):
        (tmp_path / name).write_text(text)
        with pytest.raises(UsageError, match=name) as caught:
            load_prompts(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_run_lengths_are_those_of_pycocotools() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        height, width = rng.integers(1, 90, 2).tolist()
        mask = (rng.random((height, width)) < rng.choice([0.01, 0.5, 0.99])).astype(np.uint8)
        flat = np.concatenate([[0], mask.T.ravel()])
        edges = np.append(np.flatnonzero(np.diff(flat)), height * width)
        assert run_lengths(rle(mask)["counts"]) == np.diff(edges, prepend=0).tolist()


def test_a_class_that_is_not_known(tmp_path: Path) -> None:
    (row,) = load_prompts(written(tmp_path, [broken(**{"class": "dog"})]))
    with pytest.raises(
        UsageError, match="class 'dog' is none of the detector's; green square, red"
    ):
        row.prompt(CLASSES)
