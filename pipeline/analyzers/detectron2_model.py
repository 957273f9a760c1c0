"""A Detectron2 model from a configuration and weights: found, held to be safe, built, loaded.

Detectron2 is not on the package index and is optional; everything else works without it.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from pipeline.analyzers.checkpoints import load_weights, refuse_unsafe_torch
from pipeline.analyzers.models import file_sha256
from pipeline.config import Detectron2Config
from pipeline.errors import ConfigError

_BUILTIN = "builtin:detectron2"
_BUILTIN_FOLDER = Path(__file__).resolve().parents[1] / "demo" / "models" / "detectron2"
CLASS_NAMES_FILE = "classes.txt"
ARCHITECTURES = ("GeneralizedRCNN", "RetinaNet")
_HOW_TO_GET = (
    "Detectron2 is not installed; it is not on the package index: follow its installation guide "
    "(detectron2.readthedocs.io, Installation) or take it from conda-forge"
)
_WITHOUT_EFFECT = ("cell_anchors", "num_batches_tracked", "pixel_mean", "pixel_std")
"""Entries of old checkpoints that models of today make from their configuration."""


@dataclass(frozen=True)
class Detectron2Files:
    """What a configuration comes down to: files on this machine."""

    config: Path
    weights: Path
    class_names: tuple[str, ...]
    """By class id; empty where nothing names them."""


def require_detectron2() -> None:
    """Raise ConfigError where Detectron2 cannot be imported, saying how to get it."""
    try:
        with warnings.catch_warnings():
            # Of torch, about how Detectron2 is written.
            warnings.simplefilter("ignore")
            import detectron2.layers
            import detectron2.modeling  # noqa: F401
    except ImportError as error:
        missing = getattr(error, "name", None) or ""
        if missing.split(".")[0] == "detectron2" and not missing.endswith("_C"):
            raise ConfigError(f"detector.backend = 'detectron2': {_HOW_TO_GET}") from None
        raise ConfigError(
            f"detector.backend = 'detectron2': it is installed but cannot be loaded: {error}"
        ) from None


def locate(config: Detectron2Config) -> Detectron2Files:
    """The files that a configuration names. Raises ConfigError where one is missing or refused."""
    require_detectron2()
    path = find_config(config.config)
    given = config.weights
    if given is None:
        beside = path.with_name("model.safetensors")
        if not beside.is_file():
            raise ConfigError(
                f"detector.weights is missing: a .pth, .safetensors or .pkl file, or its URL "
                f"(there is no {beside.name} beside {path.name} either)"
            )
        given = str(beside)
    weights = _weights_file(given)
    return Detectron2Files(path, weights, config.class_names or _class_names(path))


def model_config(config: Detectron2Config, path: Path) -> Any:
    """Detectron2's CfgNode as it is run, without device and weights.

    Read by yaml's safe loader: tags that make objects are refused. Raises ConfigError naming the
    file for those, for keys that Detectron2 does not know, and for models that are no detectors.
    """
    import yaml
    from detectron2.config import get_cfg

    node = get_cfg()
    try:
        node.merge_from_file(str(path), allow_unsafe=False)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{path}: refused: not plain YAML, it may hold code: {_line(error)}"
        ) from None
    except (KeyError, ValueError, TypeError, AttributeError, AssertionError, OSError) as error:
        raise ConfigError(f"{path}: not a configuration of Detectron2: {_line(error)}") from None
    kind = node.MODEL.META_ARCHITECTURE
    if kind not in ARCHITECTURES:
        raise ConfigError(
            f"{path}: MODEL.META_ARCHITECTURE = {kind!r} is not supported; "
            f"{' and '.join(ARCHITECTURES)} are"
        )
    if node.INPUT.FORMAT not in ("BGR", "RGB"):
        raise ConfigError(f"{path}: INPUT.FORMAT = {node.INPUT.FORMAT!r}; BGR and RGB are known")
    node.MODEL.WEIGHTS = ""
    node.MODEL.DEVICE = "cpu"
    node.MODEL.ROI_HEADS.SCORE_THRESH_TEST = config.threshold
    node.MODEL.RETINANET.SCORE_THRESH_TEST = config.threshold
    if not config.masks:
        node.MODEL.MASK_ON = False
    node.freeze()
    return node


def config_sha256(node: Any) -> str:
    """Of everything in a CfgNode."""
    return hashlib.sha256(node.dump().encode()).hexdigest()


def build(node: Any, weights: Path) -> Any:
    """The model with its weights, on the CPU and in inference mode.

    Raises ConfigError where the weights lack a tensor of the model, have one that the model does
    not, or one of another shape: Detectron2 itself would go on with random numbers.
    """
    from detectron2.modeling import build_model

    model = build_model(node)
    tensors = load_weights(weights)
    if not node.MODEL.MASK_ON:
        tensors = {k: v for k, v in tensors.items() if ".mask_head." not in k}
    try:
        missing, unexpected = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise ConfigError(f"weights {weights}: not of this model: {_line(error)}") from None
    for names, what in ((missing, "lacks"), (unexpected, "has, unlike the model,")):
        names = [name for name in names if not any(part in name for part in _WITHOUT_EFFECT)]
        if names:
            raise ConfigError(
                f"weights {weights}: the file {what} {len(names)} tensors, {names[0]} first"
            )
    return model.eval()


def default_class_names(node: Any) -> tuple[str, ...]:
    """Names of the data set that the configuration was trained on, where Detectron2 knows it."""
    from detectron2.data import MetadataCatalog

    for name in node.DATASETS.TEST[:1]:
        names = MetadataCatalog.get(name).get("thing_classes", None)
        if names:
            return tuple(names)
    return ()


def find_config(name: str) -> Path:
    """The YAML file of a configuration: shipped, a path, or in the installed package's zoo."""
    if name == _BUILTIN:
        return _BUILTIN_FOLDER / "config.yaml"
    path = Path(name).expanduser()
    if path.suffix == ".py":
        raise ConfigError(f"detector.config = {name!r}: refused: lazy configurations are code")
    if path.is_file():
        return path
    import detectron2

    zoo = Path(detectron2.__file__).parent / "model_zoo" / "configs"
    inside = zoo / (name if name.endswith(".yaml") else f"{name}.yaml")
    if inside.is_file() and zoo.resolve() in inside.resolve().parents:
        return inside
    raise ConfigError(
        f"detector.config = {name!r}: no such file, and not in the model zoo of the installed "
        "Detectron2 (a name such as COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml)"
    )


@lru_cache(maxsize=16)
def _weights_file(name: str) -> Path:
    refuse_unsafe_torch()
    scheme = urlparse(name).scheme
    if scheme in ("https", "detectron2"):
        from detectron2.utils.file_io import PathManager

        try:
            return Path(PathManager.get_local_path(name))
        except Exception as error:
            # Whatever its downloader raises: no network, no such file, no space.
            raise ConfigError(
                f"detector.weights = {name!r}: cannot be downloaded: {_line(error)}; "
                "give a file that holds them"
            ) from None
    path = Path(name).expanduser()
    if scheme not in ("", "file") and not path.exists():
        raise ConfigError(f"detector.weights = {name!r}: of URLs, https:// and detectron2:// do")
    if not path.is_file():
        raise ConfigError(f"detector.weights = {name!r}: no such file")
    return path


def weights_sha256(files: Detectron2Files) -> str:
    return file_sha256(files.weights)


def _class_names(config: Path) -> tuple[str, ...]:
    beside = config.with_name(CLASS_NAMES_FILE)
    if not beside.is_file():
        return ()
    return tuple(line for line in beside.read_text(encoding="utf-8").splitlines() if line)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
