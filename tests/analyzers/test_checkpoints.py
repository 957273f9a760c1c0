"""Weights are read, and nothing that a file holds is run."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from pipeline.analyzers.checkpoints import load_weights
from pipeline.errors import ConfigError


class Runs:
    """Unpickles by running a command."""

    def __init__(self, marker) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    return {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.float32([1, 2])}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_zoo_pickle_is_read(tmp_path, arrays, protocol):
    path = tmp_path / "zoo.pkl"
    content = {"model": OrderedDict(arrays), "__author__": "Detectron2 Model Zoo"}
    path.write_bytes(pickle.dumps(content, protocol))
    found = load_weights(path)
    assert {name: value.tolist() for name, value in found.items()} == {
        name: value.tolist() for name, value in arrays.items()
    }


def test_torch_and_safetensors_files_are_read(tmp_path, arrays):
    import torch
    from safetensors.torch import save_file

    tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
    torch.save({"model": tensors, "iteration": 3}, tmp_path / "m.pth")
    torch.save(tensors, tmp_path / "plain.pt")
    save_file(tensors, tmp_path / "m.safetensors")
    for name in ("m.pth", "plain.pt", "m.safetensors"):
        found = load_weights(tmp_path / name)
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[key], tensors[key]) for key in tensors)


@pytest.mark.parametrize("name", ["m.pkl", "m.pth", "m.pt"])
@pytest.mark.parametrize("where", ["alone", "inside", "as array"])
def test_a_file_that_would_run_code_is_refused_and_does_not(tmp_path, arrays, name, where):
    import torch

    marker = tmp_path / "executed"
    content = {"alone": Runs(marker), "inside": {"model": arrays | {"x": Runs(marker)}}}.get(
        where, {"model": {"a": np.array([Runs(marker)], dtype=object)}}
    )
    path = tmp_path / name
    if name.endswith(".pkl"):
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with pytest.raises(ConfigError, match="refused"):
        load_weights(path)
    assert not marker.exists()
    # The file is what it is meant to be: an ordinary unpickler does run it.
    if name.endswith(".pkl"):
        pickle.loads(path.read_bytes())
        assert marker.exists()


def test_torch_told_to_run_everything_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(ConfigError, match="TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set"):
        load_weights(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("m.pkl", b"not a pickle", "m.pkl"),
        ("m.pkl", pickle.dumps({"model": {"x": 3}}), "x is no tensor"),
        ("m.pkl", pickle.dumps([1, 2]), "no weights by name"),
        ("m.pkl", pickle.dumps({"blobs": {}}), "Caffe2"),
        (
            "m.pkl",
            pickle.dumps({"model": {"x": np.zeros(1)}, "matching_heuristics": True}),
            "backbone",
        ),
        ("m.pkl", pickle.dumps({"model": {"x": np.zeros(1)}})[:-20], "m.pkl"),
        ("m.safetensors", b"nothing", "m.safetensors"),
        ("m.pth", b"nothing", "m.pth"),
        ("m.bin", b"nothing", "not one of"),
    ],
)
def test_what_holds_no_weights_is_named(tmp_path, name, content, what):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=what):
        load_weights(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.pth: cannot be read"):
        load_weights(tmp_path / "none.pth")
