"""Weights from files, without running what is in them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    import torch

SUFFIXES = (".safetensors", ".pth", ".pt", ".pkl")

_ALLOWED = {
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *(
        (f"numpy.{core}.multiarray", name)
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    ),
    # How numpy pickles arrays in protocol 5.
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}
"""All that the pickles of Detectron2's model zoo name: numpy arrays in dictionaries."""


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """Name to tensor, on the CPU.

    safetensors as they are; `.pth` and `.pt` by torch's weights_only reader; `.pkl` by an
    unpickler that knows numpy arrays and nothing else. Where a checkpoint keeps its weights under
    "model", those are taken.

    Raises ConfigError naming the file for anything else, and for a file that holds code.
    """
    refuse_unsafe_torch()
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        if path.suffix in (".pth", ".pt"):
            import torch

            return _tensors(torch.load(path, map_location="cpu", weights_only=True), path)
        if path.suffix == ".pkl":
            with open(path, "rb") as file:
                return _tensors(_ArraysOnly(file, encoding="latin1").load(), path)
    except ConfigError:
        raise
    except (OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise ConfigError(f"weights {path}: cannot be read: {_line(error)}") from None
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"weights {path}: refused, since it holds more than weights: {_line(error)}"
        ) from None
    except Exception as error:
        # safetensors has an error class of its own, and a damaged pickle raises almost anything.
        raise ConfigError(f"weights {path}: damaged or no weights: {_line(error)}") from None
    raise ConfigError(f"weights {path}: not one of {', '.join(SUFFIXES)}")


def refuse_unsafe_torch() -> None:
    """Raise ConfigError where torch was told to run whatever a checkpoint holds."""
    name = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    if os.environ.get(name, "").lower() in ("1", "y", "yes", "true"):
        raise ConfigError(f"{name} is set: weights would run code when they are read; unset it")


class _ArraysOnly(pickle.Unpickler):
    """Refuses every name but those that numpy arrays are made of."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)

    if TYPE_CHECKING:

        def __init__(self, file: IO[bytes], *, encoding: str) -> None: ...


def _tensors(loaded: Any, path: Path) -> dict[str, torch.Tensor]:
    import numpy as np
    import torch

    if isinstance(loaded, dict) and isinstance(loaded.get("model"), dict):
        if loaded.get("matching_heuristics"):
            raise ConfigError(f"weights {path}: a backbone to train from, not a whole detector")
        loaded = loaded["model"]
    if not isinstance(loaded, dict) or not loaded:
        raise ConfigError(f"weights {path}: no weights by name")
    if "blobs" in loaded:
        raise ConfigError(f"weights {path}: of Caffe2, which is not supported")
    found = {}
    for name, value in loaded.items():
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value)
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ConfigError(f"weights {path}: {name} is no tensor")
        found[name] = value
    return found


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
