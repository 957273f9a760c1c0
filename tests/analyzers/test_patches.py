"""SigLIP 2 with pictures of any shape ("NaFlex"), against its own code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.analyzers.clip import ClipEmbedder
from pipeline.analyzers.frames import FrameBatch
from pipeline.analyzers.preprocess import Preprocessing, patched_size, to_rgb
from pipeline.analyzers.text import text_embeddings
from pipeline.config import ClipEmbedderConfig
from tests.analyzers import tiny

PROCESSOR = {
    "image_processor_type": "Siglip2ImageProcessor",
    "patch_size": 8,
    "max_num_patches": 40,
    "resample": 2,
}
SIZES = [(320, 180), (90, 161), (33, 33), (1280, 720), (400, 10)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    import torch
    from transformers import Siglip2Config, Siglip2Model

    path = tmp_path_factory.mktemp("siglip2")
    torch.manual_seed(6)
    vision = {
        "hidden_size": 32,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "patch_size": 8,
        "num_patches": 36,
    }
    config = Siglip2Config(text_config=tiny._text_config(), vision_config=vision)
    Siglip2Model(config).save_pretrained(path)
    tiny.save_processor(path, PROCESSOR)
    tiny._save_tokenizer(path)
    return path


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_inputs_equal_transformers(folder: Path, width: int, height: int) -> None:
    pytest.importorskip("PIL", reason="transformers' reference processors need Pillow")
    from transformers import Siglip2ImageProcessorPil

    frames = tiny.scene(2, width, height)
    theirs = Siglip2ImageProcessorPil.from_pretrained(folder)(list(frames), return_tensors="pt")
    ours = Preprocessing.from_folder(folder).inputs(
        to_rgb(tiny.rgb_pixels(frames), "cpu"), exact=True
    )
    assert ours.keys() == theirs.keys()
    assert ours["spatial_shapes"].tolist() == theirs["spatial_shapes"].tolist()
    assert ours["pixel_attention_mask"].tolist() == theirs["pixel_attention_mask"].tolist()
    np.testing.assert_allclose(ours["pixel_values"], theirs["pixel_values"], atol=1e-5)


def test_sizes_have_no_more_patches_than_there_may_be() -> None:
    for width, height in SIZES:
        rows, columns = patched_size(height, width, 16, 256)
        assert rows % 16 == columns % 16 == 0
        assert 1 <= (rows // 16) * (columns // 16) <= 256


@pytest.mark.parametrize(("width", "height"), SIZES[:3])
@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.9999), ("bf16", 0.999)])
def test_embeddings_equal_transformers(
    folder: Path, width: int, height: int, precision, least: float
) -> None:
    pytest.importorskip("PIL", reason="transformers' reference processors need Pillow")
    import torch
    from transformers import Siglip2ImageProcessorPil, Siglip2Model

    frames = tiny.scene(5, width, height)
    inputs = Siglip2ImageProcessorPil.from_pretrained(folder)(list(frames), return_tensors="pt")
    model = Siglip2Model.from_pretrained(folder).eval()
    with torch.inference_mode():
        features = model.get_image_features(**inputs).pooler_output
    expected = torch.nn.functional.normalize(features, dim=-1).numpy()
    config = ClipEmbedderConfig(backend="clip", model=str(folder), precision=precision, batch=2)
    member = ClipEmbedder(config)
    member.setup("cpu")
    table = member.analyze(FrameBatch(tiny.rgb_pixels(frames)))
    found = np.array(table["embedding"].to_pylist(), dtype=np.float32)
    assert (found * expected).sum(axis=1).min() >= least


def test_texts_are_embedded_by_their_tower(folder: Path) -> None:
    found = text_embeddings(folder, ["a red circle", "a blue square"])
    assert found.shape == (2, 32)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
