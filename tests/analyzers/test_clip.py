from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.analyzers.clip import ClipEmbedder
from pipeline.analyzers.frames import FrameBatch
from pipeline.analyzers.preprocess import Preprocessing, to_rgb
from pipeline.analyzers.text import text_embeddings
from pipeline.config import ClipEmbedderConfig
from pipeline.errors import ConfigError
from pipeline.ledger.schema import DATA_COLUMNS
from tests.analyzers import tiny
from tests.analyzers.yuv import random_yuv

TEXTS = ["a red circle", "a blue square", "circle"]


def embedder(folder: Path | str, **settings: Any) -> ClipEmbedder:
    member = ClipEmbedder(ClipEmbedderConfig(backend="clip", model=str(folder), **settings))
    member.setup("cpu")
    return member


def matrix(table: pa.Table) -> np.ndarray:
    return np.array(table.column("embedding").to_pylist(), dtype=np.float32)


def unit(features: Any) -> np.ndarray:
    array = features.detach().numpy()
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a.astype(np.float64) * b).sum(1)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return tiny.scene(5, 160, 90, seed=2)


@pytest.fixture(params=["clip", "siglip"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(f"{request.param}_folder")


def test_equals_the_whole_model(folder: Path, frames: np.ndarray) -> None:
    from transformers import AutoModel

    table = embedder(folder).analyze(FrameBatch(tiny.rgb_pixels(frames)))
    assert table.schema.remove(0) == DATA_COLUMNS["embeddings"]
    assert table.column("local").to_pylist() == list(range(5))
    got = matrix(table)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)
    pictures = Preprocessing.from_folder(folder).apply(
        to_rgb(tiny.rgb_pixels(frames), "cpu"), exact=False
    )
    model = AutoModel.from_pretrained(folder).eval()
    expected = unit(model.get_image_features(pixel_values=pictures).pooler_output)
    assert cosines(got, expected).min() > 0.999999


def test_equals_transformers_from_the_pixels_on(folder: Path, frames: np.ndarray) -> None:
    pytest.importorskip("PIL", reason="transformers' reference processors need Pillow")
    from transformers import AutoImageProcessor, AutoModel

    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    pictures = processor(list(frames), return_tensors="pt")["pixel_values"]
    features = AutoModel.from_pretrained(folder).eval().get_image_features(pixel_values=pictures)
    got = matrix(embedder(folder).analyze(FrameBatch(tiny.rgb_pixels(frames))))
    assert cosines(got, unit(features.pooler_output)).min() > 0.9999


@pytest.mark.parametrize("size", [1, 3])
def test_batches_make_no_difference(clip_folder: Path, frames: np.ndarray, size: int) -> None:
    batch = FrameBatch(tiny.rgb_pixels(frames))
    whole = matrix(embedder(clip_folder, batch=8).analyze(batch))
    split = matrix(embedder(clip_folder, batch=size).analyze(batch))
    np.testing.assert_allclose(split, whole, atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_is_near(clip_folder: Path, frames: np.ndarray, precision: str) -> None:
    batch = FrameBatch(tiny.rgb_pixels(frames))
    full = matrix(embedder(clip_folder).analyze(batch))
    lower = matrix(embedder(clip_folder, precision=precision).analyze(batch))
    assert lower.dtype == np.float32
    assert cosines(lower, full).min() > 0.999


def test_yuv_frames(clip_folder: Path) -> None:
    table = embedder(clip_folder).analyze(FrameBatch(random_yuv(2, 64, 48)))
    assert matrix(table).shape == (2, 24)


def test_text_equals_the_whole_model(folder: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    got = text_embeddings(folder, TEXTS)
    assert got.dtype == np.float32
    padding = "max_length" if folder.name.startswith("siglip") else True
    tokens = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=padding, return_tensors="pt")
    tokens.pop("token_type_ids", None)
    features = AutoModel.from_pretrained(folder).eval().get_text_features(**tokens)
    assert cosines(got, unit(features.pooler_output)).min() > 0.99999


def test_text_matches_frames_in_size_and_is_cut_where_too_long(clip_folder: Path) -> None:
    frames = embedder(clip_folder).analyze(FrameBatch(tiny.rgb_pixels(tiny.scene(1, 64, 64))))
    long = text_embeddings(clip_folder, ["a red circle " * 20])
    assert long.shape == matrix(frames).shape


@pytest.mark.parametrize("side", ["image", "text"])
def test_the_other_tower_is_not_loaded(folder: Path, side: str) -> None:
    from transformers import AutoModel

    from pipeline.analyzers.towers import load_tower

    model, _ = load_tower(folder, side)
    whole = AutoModel.from_pretrained(folder)
    other = whole.text_model if side == "image" else whole.vision_model

    def count(one: Any) -> int:
        return sum(parameter.numel() for parameter in one.parameters())

    assert count(model) <= count(whole) - count(other)


def test_text_without_a_tokenizer(clip_folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(clip_folder / name, tmp_path / name)
    with pytest.raises(ConfigError, match="no tokenizer"):
        text_embeddings(tmp_path, TEXTS)


def test_loading_is_silent(clip_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    embedder(clip_folder)
    text_embeddings(clip_folder, TEXTS)
    assert capfd.readouterr() == ("", "")


def test_identity(clip_folder: Path, tmp_path: Path) -> None:
    def identity(folder: Path, **settings: Any) -> dict[str, object]:
        config = ClipEmbedderConfig(backend="clip", model=str(folder), **settings)
        return ClipEmbedder(config).identity()

    original = identity(clip_folder)
    json.dumps(original)
    copy = tmp_path / "elsewhere"
    shutil.copytree(clip_folder, copy)
    assert identity(copy, batch=7) == original
    assert identity(copy, precision="fp16") != original
    tiny.save_processor(copy, {**tiny.CLIP_PROCESSOR, "resample": 2})
    assert identity(copy) != original


def test_a_model_that_embeds_no_images(tmp_path: Path) -> None:
    tiny.save_detector(tmp_path, "detr")
    with pytest.raises(ConfigError, match="embeds no images"):
        embedder(tmp_path)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_says_the_same(clip_folder: Path, frames: np.ndarray) -> None:
    batch = FrameBatch(tiny.rgb_pixels(frames))
    expected = matrix(embedder(clip_folder, batch=2).analyze(batch))
    found = matrix(embedder(clip_folder, batch=2, compile=True).analyze(batch))
    assert cosines(found, expected).min() > 0.99999
