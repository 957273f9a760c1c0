"""Where a model is, what it is, and loading it: folders of safetensors, quietly and strictly."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.analyzers.processor_config import read_json, read_processor_config
from pipeline.errors import ConfigError

_BUILTIN = "builtin:"
_BUILTIN_NAMES = ("clip", "detector")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_WEIGHTS = "model.safetensors"
_WEIGHTS_INDEX = "model.safetensors.index.json"
_HUB_FILES = [
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    _WEIGHTS,
    "model-*-of-*.safetensors",
    _WEIGHTS_INDEX,
]
"""Nothing that runs code when it is loaded, and no second format of the same weights."""


def resolve_model(model: str, revision: str | None = None) -> Path:
    """The local folder of a model: config.json and its weights are there.

    Args:
        model: `builtin:detector`, `builtin:clip`, a local folder, or a hub name `org/name`,
            which is downloaded unless it has been (never with HF_HUB_OFFLINE=1).
        revision: branch, tag or commit of a hub name.

    Raises ConfigError saying what was tried and what to do. What looks like a path never goes to
    the network.
    """
    if not model.startswith(_BUILTIN) and not _is_local(model):
        folder = _download(model, revision)
    elif revision is not None:
        raise ConfigError(f"model {model}: revision = {revision!r} applies to hub names only")
    elif model.startswith(_BUILTIN):
        folder = _builtin(model)
    else:
        folder = Path(model).expanduser()
        if not folder.is_dir():
            raise ConfigError(f"model {model}: no such folder, and not a hub name like org/name")
    if not (folder / "config.json").is_file():
        raise ConfigError(f"model {model}: config.json is missing in {folder}")
    weight_files(folder)
    return folder


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model, one or its shards. Raises ConfigError for a missing one."""
    single = folder / _WEIGHTS
    if single.is_file():
        return [single]
    index = folder / _WEIGHTS_INDEX
    if not index.is_file():
        raise ConfigError(f"{folder}: {_WEIGHTS} is missing (weights in pickles are not loaded)")
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ConfigError(f"{index}: weight_map is missing")
    files = [folder / name for name in sorted(set(shards.values()))]
    for file in files:
        if not file.is_file():
            raise ConfigError(f"{folder}: {file.name} is missing, which {index.name} names")
    return files


def model_identity(folder: Path) -> dict[str, object]:
    """What a model is, wherever it lies: sha256 of weights and config, and its preprocessing.

    Reads the weights as bytes, once a process; imports neither torch nor transformers.
    """
    weights = [[file.name, file_sha256(file)] for file in weight_files(folder)]
    _, processor = read_processor_config(folder)
    return {
        "weights_sha256": weights[0][1] if len(weights) == 1 else _text_sha256(weights),
        "config_sha256": file_sha256(folder / "config.json"),
        "processor_sha256": _text_sha256(processor),
    }


def model_type(folder: Path) -> str:
    """`model_type` of config.json, which names the architecture."""
    named = read_json(folder / "config.json").get("model_type")
    if not isinstance(named, str):
        raise ConfigError(f"{folder / 'config.json'}: model_type is missing")
    return named


def load_pretrained(model_class: Any, folder: Path) -> Any:
    """`model_class.from_pretrained` in float32 on the CPU and in inference mode.

    Raises ConfigError where the folder does not hold all weights of the class: transformers
    would fill in random numbers and go on.
    """
    from safetensors import SafetensorError

    try:
        with quiet_transformers():
            model, loading = model_class.from_pretrained(
                folder,
                dtype="float32",
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{folder}: the model cannot be loaded: {reason:.300}") from error
    # A counter of training steps, which old checkpoints lack and inference does not read.
    missing = sorted(k for k in loading["missing_keys"] if not k.endswith("num_batches_tracked"))
    if missing:
        raise ConfigError(
            f"{folder}: the weights lack {len(missing)} tensors of {type(model).__name__}, "
            f"{missing[0]} first"
        )
    return model.eval()


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars, advice or warnings of transformers while a model is loaded."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _is_local(model: str) -> bool:
    """Whether a name is a path: one that exists, looks like one, or could be no hub name."""
    path = Path(model)
    return (
        path.is_dir()
        or not _HUB_NAME.fullmatch(model)
        # org/name with a folder org beside us is a path with a typing error in it.
        or path.parent.is_dir()
    )


def _builtin(model: str) -> Path:
    name = model.removeprefix(_BUILTIN)
    if name not in _BUILTIN_NAMES:
        known = " and ".join(_BUILTIN + known for known in _BUILTIN_NAMES)
        raise ConfigError(f"model {model}: there is no such model; {known} are shipped")
    folder = Path(__file__).resolve().parents[1] / "demo" / "models" / name
    if not folder.is_dir():
        raise ConfigError(f"model {model}: {folder} is missing; `make train` makes it anew")
    return folder


def _download(model: str, revision: str | None) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    # Whatever HTTP library this version of the hub client uses, its errors have this base.
    http_error = HfHubHTTPError.__bases__[0]
    offline = constants.HF_HUB_OFFLINE
    noisy = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        folder = snapshot_download(
            model, revision=revision, allow_patterns=_HUB_FILES, local_files_only=offline
        )
    except (http_error, OSError, ValueError) as error:
        at = f" at revision {revision}" if revision else ""
        if offline:
            tried = "it is not in the local cache, and HF_HUB_OFFLINE forbids to download it"
        else:
            tried = f"it could not be downloaded: {' '.join(str(error).split()):.200}"
        raise ConfigError(
            f"model {model}{at}: no such folder, and {tried}; give a folder that holds it"
        ) from error
    finally:
        if noisy:
            enable_progress_bars()
    return Path(folder)


def file_sha256(file: Path) -> str:
    """Hex digest of a file's bytes, read once a process."""
    stat = file.stat()
    return _sha256_of(str(file.resolve()), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256_of(path: str, size: int, mtime_ns: int) -> str:
    """Hex digest of a file's bytes; size and mtime are there to tell a changed file apart."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _text_sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
