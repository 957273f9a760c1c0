"""A checkpoint's `preprocessor_config.json`, with what it leaves out filled in.

Older files leave most keys to the defaults of the class that they name, write sizes as one
number and the class as a feature extractor. Source of names, defaults and rules: transformers,
`models/*/image_processing_pil_*.py` and `image_processing_utils.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError

_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_OPENAI = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_COMMON: dict[str, Any] = {
    "do_resize": True,
    "do_center_crop": False,
    "crop_size": None,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
}
_DETR = {
    **_COMMON,
    **_IMAGENET,
    "size": {"shortest_edge": 800, "longest_edge": 1333},
    "resample": 2,
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "CLIP": {
        **_COMMON,
        **_OPENAI,
        "size": {"shortest_edge": 224},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
    },
    "Siglip": {
        **_COMMON,
        "size": {"height": 224, "width": 224},
        "resample": 3,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    },
    "Siglip2": {
        **_COMMON,
        "size": None,
        "resample": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "patch_size": 16,
        "max_num_patches": 256,
    },
    "Detr": _DETR,
    "ConditionalDetr": _DETR,
    "DeformableDetr": _DETR,
    # Resizes scaled floats, as they are.
    "RfDetr": {**_DETR, "antialias": False},
    # YOLOS cuts the sides down to whole patches.
    "Yolos": {**_DETR, "side_multiple": 16},
    "RTDetr": {
        **_COMMON,
        **_IMAGENET,
        "size": {"height": 640, "width": 640},
        "resample": 2,
        "do_normalize": False,
    },
    "Sam2": {
        **_COMMON,
        **_IMAGENET,
        "size": {"height": 1024, "width": 1024},
        "resample": 2,
    },
    "Sam3": {
        **_COMMON,
        "size": {"height": 1008, "width": 1008},
        "resample": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    },
}
_WITH_MAX_SIZE = ("Detr", "ConditionalDetr", "DeformableDetr", "RfDetr", "Yolos")
_OF_PATCHES = ("patch_size", "max_num_patches")
_KEYS = (*_COMMON, "size", "resample", "image_mean", "image_std")

# Say nothing of the pixels that a model gets here: frames are RGB already, and frames of one
# batch have one size, so that padding them to the largest is padding by nothing.
_WITHOUT_EFFECT = {
    "image_processor_type",
    "feature_extractor_type",
    "processor_class",
    "do_convert_rgb",
    "do_pad",
    "pad_and_return_pixel_mask",
    "format",
    "do_convert_annotations",
    "return_segmentation_masks",
    "masks_path",
    "mask_size",
    "return_tensors",
    "disable_grouping",
    "device",
    "default_to_square",
    "image_seq_length",
    "_valid_processor_keys",
}
# The only layout that models of transformers take.
_CHANNELS_FIRST = [
    ("data_format", "channels_first"),
    ("data_format", "ChannelDimension.FIRST"),
]


def read_processor_config(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The file that describes the image processor, and its contents.

    `preprocessor_config.json`, or the `image_processor` part of `processor_config.json`, where
    transformers 5 writes it for models of images and text. Raises ConfigError without either.
    """
    path = folder / "preprocessor_config.json"
    if path.is_file():
        return path, read_json(path)
    joint = folder / "processor_config.json"
    if joint.is_file():
        section = read_json(joint).get("image_processor")
        if isinstance(section, dict):
            return joint, section
    raise ConfigError(f"{folder}: preprocessor_config.json is missing")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises ConfigError naming the file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected an object, not {data!r:.40}")
    return data


def complete_processor_config(path: Path, given: dict[str, Any]) -> dict[str, Any]:
    """`given` with the defaults of its class, sizes as objects, and nothing without effect.

    Raises ConfigError naming the file and the key that is not supported.
    """
    family = _family(path, given)
    settings = dict(_DEFAULTS[family])
    max_size = given.get("max_size")
    for key, value in given.items():
        if value is None or key in _WITHOUT_EFFECT or (key, value) in _CHANNELS_FIRST:
            continue
        if key in _KEYS or (key in _OF_PATCHES and key in settings):
            settings[key] = value
        elif key != "max_size" or family not in _WITH_MAX_SIZE:
            raise ConfigError(f"{path}: {key} = {value!r} is not supported")
    if isinstance(settings["size"], int):
        settings["size"] = _size_object(family, settings["size"], max_size)
    if isinstance(settings["crop_size"], int):
        settings["crop_size"] = dict.fromkeys(("height", "width"), settings["crop_size"])
    return settings


def _family(path: Path, given: dict[str, Any]) -> str:
    named = given.get("image_processor_type") or given.get("feature_extractor_type")
    if not isinstance(named, str):
        raise ConfigError(f"{path}: image_processor_type is missing")
    family = named.removesuffix("Pil").removesuffix("Fast")
    family = family.removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    if family not in _DEFAULTS:
        raise ConfigError(
            f"{path}: image_processor_type = {named!r} is not supported; "
            f"those of {', '.join(_DEFAULTS)} are"
        )
    return family


def _size_object(family: str, edge: int, max_size: int | None) -> dict[str, int]:
    if family == "CLIP":
        return {"shortest_edge": edge}
    if family in _WITH_MAX_SIZE:
        return {"shortest_edge": edge, "longest_edge": max_size or 1333}
    return {"height": edge, "width": edge}
