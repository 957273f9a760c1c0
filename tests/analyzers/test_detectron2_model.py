"""The files of a Detectron2 model: found, loaded, or refused without running anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from tests.analyzers.test_detectron2 import batch_of, detector, make_model
from tests.analyzers.tiny import scene

pytestmark = pytest.mark.detectron2


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("d2"))


def test_zoo_names_are_found_in_the_package():
    from pipeline.analyzers.detectron2_model import find_config

    assert find_config("COCO-Detection/faster_rcnn_R_50_FPN_3x").is_file()
    with pytest.raises(ConfigError, match="model zoo"):
        find_config("COCO-Detection/none_such.yaml")
    with pytest.raises(ConfigError, match="model zoo"):
        find_config("../../../setup.yaml")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("MODEL: !!python/object/apply:os.system ['touch {marker}']", "not plain YAML"),
        ("MODEL:\n  NO_SUCH_KEY: 1", "not a configuration of Detectron2"),
        ("MODEL:\n  META_ARCHITECTURE: PanopticFPN\nVERSION: 2", "not supported"),
        ("just text", "not a configuration of Detectron2"),
        ("INPUT:\n  FORMAT: L\nVERSION: 2", "INPUT.FORMAT"),
    ],
)
def test_configurations_that_are_refused(tiny, tmp_path, text, what):
    marker = tmp_path / "executed"
    path = tmp_path / "bad.yaml"
    path.write_text(text.format(marker=marker))
    with pytest.raises(ConfigError, match=what):
        detector(tiny, config=str(path))
    assert not marker.exists()


def test_lazy_configurations_are_refused(tiny, tmp_path):
    marker = tmp_path / "executed"
    path = tmp_path / "lazy.py"
    path.write_text(f"open({str(marker)!r}, 'w')")
    with pytest.raises(ConfigError, match="lazy configurations are code"):
        detector(tiny, config=str(path))
    assert not marker.exists()


def test_weights_of_another_model_are_refused(tiny, tmp_path):
    from safetensors.torch import load_file, save_file

    tensors = load_file(tiny / "model.safetensors")
    name = "proposal_generator.rpn_head.conv.weight"
    fewer = {k: v for k, v in tensors.items() if k != name}
    save_file(fewer, tmp_path / "fewer.safetensors")
    with pytest.raises(ConfigError, match="lacks 1 tensors"):
        detector(tiny, weights=str(tmp_path / "fewer.safetensors"))
    save_file(tensors | {"stranger": tensors[name].clone()}, tmp_path / "more.safetensors")
    with pytest.raises(ConfigError, match="stranger"):
        detector(tiny, weights=str(tmp_path / "more.safetensors"))
    save_file(tensors | {name: tensors[name][:1].clone()}, tmp_path / "shape.safetensors")
    with pytest.raises(ConfigError, match="not of this model"):
        detector(tiny, weights=str(tmp_path / "shape.safetensors"))


def test_pth_and_zoo_pickles_load_alike(tiny, tmp_path):
    import pickle

    from safetensors.torch import load_file

    tensors = load_file(tiny / "model.safetensors")
    zoo = {
        "model": {k: v.numpy() for k, v in tensors.items()},
        "__author__": "Detectron2 Model Zoo",
    }
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps(zoo))
    frames = batch_of(scene(2, 256, 160))
    expected = detector(tiny, threshold=0.3).analyze(frames)
    for weights in (tiny / "model.pth", tmp_path / "zoo.pkl"):
        assert detector(tiny, threshold=0.3, weights=str(weights)).analyze(frames).equals(expected)


def test_missing_weights_say_what_to_give(tiny, tmp_path):
    with pytest.raises(ConfigError, match=r"detector\.weights is missing"):
        detector(tiny, config="COCO-Detection/faster_rcnn_R_50_FPN_3x", weights=None)
    with pytest.raises(ConfigError, match="no such file"):
        detector(tiny, weights=str(tmp_path / "none.pth"))
