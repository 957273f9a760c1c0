"""What is searched for is embedded by the model that wrote the rows, or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.analyzers.text import text_embeddings
from pipeline.cli import invoke
from pipeline.config_file import parse_config
from pipeline.errors import UsageError
from pipeline.ledger.reader import Ledger
from pipeline.results.pixels import read_frames
from pipeline.results.query import embeddings_analysis, query_vector, read_picture
from pipeline.results.search import search
from pipeline.runner import run
from tests.analyzers import tiny
from tests.videos import make


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A video, a tiny CLIP, and what it made of the video."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("query")
    (folder / "model").mkdir()
    tiny.save_clip(folder / "model")
    make(folder / "a.mp4", 24, gop=8)
    config = {
        "embedder": {"backend": "clip", "model": str(folder / "model")},
        "sampling": {"stride": 4},
    }
    run(parse_config(config, where="test"), [str(folder / "a.mp4")], folder / "out", engine="local")
    yield folder
    torch.set_num_threads(before)


def vector(made: Path, *arguments, **options) -> np.ndarray:
    ledger = Ledger(made / "out")
    return query_vector(ledger, embeddings_analysis(ledger), *arguments, **options)


def test_a_text_is_embedded_by_the_runs_model(made: Path) -> None:
    expected = text_embeddings(made / "model", ["a red circle"])[0]
    np.testing.assert_allclose(vector(made, "a red circle"), expected, atol=1e-6)
    (best, *_) = search(made / "out", "a red circle", near=None)
    assert best.score == pytest.approx(max(float(row @ expected) for row in _rows(made)), abs=1e-6)


def test_a_picture_is_embedded_as_a_frame_is(made: Path, tmp_path: Path) -> None:
    ((_, rgb),) = read_frames(Ledger(made / "out"), str(made / "a.mp4"), [8])
    Image.fromarray(rgb).save(tmp_path / "frame.png")
    found = vector(made, image=tmp_path / "frame.png")
    np.testing.assert_allclose(found, _rows(made)[2], atol=1e-4)
    both = vector(made, "a red circle", tmp_path / "frame.png")
    mean = found + vector(made, "a red circle")
    np.testing.assert_allclose(both, mean / np.linalg.norm(mean), atol=1e-6)


def _rows(made: Path) -> np.ndarray:
    rows = Ledger(made / "out").table("embeddings").sort_by("frame_index")
    return np.stack(rows.column("embedding").to_numpy())


def test_pictures_are_turned_as_they_say(tmp_path: Path) -> None:
    rgb = np.zeros((20, 30, 3), np.uint8)
    rgb[:10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned clockwise by 90 degrees.
    Image.fromarray(rgb).save(tmp_path / "a.png", exif=exif)
    found = read_picture(tmp_path / "a.png")
    assert found.shape == (30, 20, 3)
    assert found[:, 10:].all()
    assert not found[:, :10].any()


def test_the_same_model_elsewhere_will_do_and_another_is_refused(
    made: Path, tmp_path: Path
) -> None:
    shutil.copytree(made / "model", tmp_path / "copy")
    same = vector(made, "a red circle", model=str(tmp_path / "copy"))
    np.testing.assert_array_equal(same, vector(made, "a red circle"))
    weights = tmp_path / "copy" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(UsageError, match=r"did not write the embeddings of .*: weights_sha256 is"):
        vector(made, "a red circle", model=str(tmp_path / "copy"))
    code, line = invoke(["search", str(made / "out"), "a", "--model", "builtin:clip"])
    assert code == 2
    assert "model builtin:clip did not write the embeddings of" in line


def test_a_model_that_is_gone_is_one_line_and_can_be_named(made: Path, tmp_path: Path) -> None:
    (made / "model").rename(tmp_path / "moved")
    try:
        code, line = invoke(["search", str(made / "out"), "a red circle"])
        assert code == 2
        assert f"model {made / 'model'}: no such folder" in line
        assert line.endswith("say where it is with --model")
        assert vector(made, "a red circle", model=str(tmp_path / "moved")).shape == (24,)
    finally:
        (tmp_path / "moved").rename(made / "model")
