"""Checkpoints of SAM 2: which are taken, what they are, and what they are shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import ConfigError
from pipeline.tracks.sam2_model import LoadedSam2, checkpoint_identity, checkpoint_of, load
from tests.tracks.sam2_made import SIDE, pixels, random_sam2, run, sam2_config
from tests.tracks.test_sam2 import SCENE, new


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint")
    random_sam2(path)
    return path


def changed(folder: Path, name: str, **given: object) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **given}))


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_identity_is_of_weights_and_preprocessing(folder: Path, copy: Path) -> None:
    config = sam2_config().model_copy(update={"model": str(folder)})
    assert checkpoint_of(config) == folder
    identity = checkpoint_identity(folder)
    assert identity == checkpoint_identity(copy)
    changed(copy, "preprocessor_config.json", image_mean=[0.5, 0.5, 0.5])
    assert checkpoint_identity(copy) != identity


def test_other_models_are_refused(copy: Path) -> None:
    config = sam2_config().model_copy(update={"model": str(copy)})
    changed(copy, "config.json", model_type="sam2")
    with pytest.raises(ConfigError, match="model_type = 'sam2' cannot track; sam2_video, "):
        checkpoint_of(config)


def test_weights_that_are_missing_are_refused(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    del weights["memory_encoder.projection.bias"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"memory_encoder\.projection\.bias"):
        load(copy, "cpu")


def test_pictures_of_another_size_are_refused(copy: Path) -> None:
    changed(copy, "preprocessor_config.json", size={"height": 96, "width": 96})
    with pytest.raises(ConfigError, match="pictures are made 96x96, and the model takes 64x64"):
        load(copy, "cpu")


def test_pictures_are_squashed_and_normalised(loaded: LoadedSam2) -> None:
    frame = pixels(0, (320, 180))
    squashed = Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    scaled = np.asarray(squashed, np.float32) / 255
    wanted = (scaled - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    found = loaded.picture(frame)
    assert found.shape == (3, SIDE, SIDE)
    assert np.allclose(found.permute(1, 2, 0).numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_other_precisions_track(loaded: LoadedSam2, precision: str) -> None:
    exact = run(new(loaded), range(5), SCENE)
    rounded = run(new(replace(loaded, precision=precision)), range(5), SCENE)
    assert [len(frame) for frame in rounded] == [len(frame) for frame in exact]
    scores = [(a.score, b.score) for a, b in zip(exact[4], rounded[4], strict=True)]
    assert all(abs(a - b) < 0.05 for a, b in scores if a and b)
    assert exact != rounded
