"""One tower of a model that embeds images and texts: the other is not loaded where that can be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.analyzers.models import load_pretrained, model_type
from pipeline.errors import ConfigError

Side = Literal["image", "text"]


@dataclass(frozen=True)
class _Towers:
    """transformers' classes for each side of a family, and the output that both sides share."""

    image: str
    text: str
    image_output: str
    text_output: str


_CLIP = _Towers(
    "CLIPVisionModelWithProjection", "CLIPTextModelWithProjection", "image_embeds", "text_embeds"
)
_SIGLIP = _Towers("SiglipVisionModel", "SiglipTextModel", "pooler_output", "pooler_output")
_SIGLIP2 = _Towers("Siglip2VisionModel", "Siglip2TextModel", "pooler_output", "pooler_output")
_FAMILIES = {
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "clip_text_model": _CLIP,
    # SigLIP 2 with pictures of one size says siglip, too.
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "siglip_text_model": _SIGLIP,
    # Pictures in their own shape, cut into patches ("NaFlex").
    "siglip2": _SIGLIP2,
    "siglip2_vision_model": _SIGLIP2,
    "siglip2_text_model": _SIGLIP2,
}
"""By `model_type` of config.json."""


def load_tower(folder: Path, side: Side) -> tuple[Any, Callable[..., Any]]:
    """(model, function from its keyword inputs to a tensor (n, dimensions), not normalised).

    The model is on the CPU, in float32 and inference mode; move it before calling the function.
    Other families than CLIP and SigLIP are loaded whole and have to offer `get_image_features`
    or `get_text_features`. Raises ConfigError for a model that does not embed this side.
    """
    import transformers

    family = _FAMILIES.get(model_type(folder))
    if family is not None:
        model = load_pretrained(getattr(transformers, getattr(family, side)), folder)
        output = getattr(family, f"{side}_output")
        return model, lambda **inputs: getattr(model(**inputs), output)
    model = load_pretrained(transformers.AutoModel, folder)
    features = getattr(model, f"get_{side}_features", None)
    if features is None:
        what = "images" if side == "image" else "text"
        raise ConfigError(f"{folder}: {type(model).__name__} embeds no {what}")
    # Some models of transformers 5 wrap the tensor in an output object, some return it as it is.
    return model, lambda **inputs: _pooled(features(**inputs))


def _pooled(features: Any) -> Any:
    return getattr(features, "pooler_output", features)
