"""Decoded frames to RGB, and RGB to what a model expects, in torch on the analyzer's device.

Both follow a reference to the level: FFmpeg for RGB, transformers' PIL processors for the rest.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.analyzers.colors import yuv_coefficients
from pipeline.analyzers.processor_config import complete_processor_config, read_processor_config
from pipeline.analyzers.resizing import CHUNK_PIXELS, Resample, resize
from pipeline.clip_pixels import Pixels
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import torch

_RESAMPLE: dict[object, Resample] = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""PIL's numbers, as preprocessor_config.json has them."""


def to_rgb(pixels: Pixels, device: str, uploaded: torch.Tensor | None = None) -> torch.Tensor:
    """uint8 RGB (N, 3, height, width) on `device`, where `uploaded` has the pixels if it is given.

    rgb24 on a CPU is a view of the buffer (channels last in memory). yuv420p is uploaded as it
    is, half the bytes, and converted there: equal to FFmpeg's rgb24 on x86 (see `colors`).
    """
    import torch

    if uploaded is None:
        uploaded = as_tensor(pixels.data).to(device)
    if pixels.format == "rgb24":
        return uploaded.permute(0, 3, 1, 2)
    height, width = pixels.height, pixels.width
    rgb = torch.empty((len(pixels), 3, height, width), dtype=torch.uint8, device=device)
    step = max(1, CHUNK_PIXELS // (height * width))
    for start in range(0, len(pixels), step):
        chunk = slice(start, start + step)
        _convert_yuv(uploaded[chunk], pixels, rgb[chunk])
    return rgb


def as_tensor(buffer: np.ndarray) -> torch.Tensor:
    """A view of a decoded buffer, not to be written to."""
    import torch

    with warnings.catch_warnings():
        # A buffer from the object store is read-only, and so it is used here.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(buffer)


def _convert_yuv(yuv: torch.Tensor, pixels: Pixels, rgb: torch.Tensor) -> None:
    """Fill `rgb`, uint8 (n, 3, height, width), from uint8 (n, height * 3 // 2, width)."""
    import torch

    by = yuv_coefficients(bt709=pixels.bt709, full_range=pixels.full_range)
    count, height, width = len(yuv), pixels.height, pixels.width
    planes = yuv.flatten(1)[:, height * width :].view(count, 2, height // 2, width // 2)
    luma = yuv[:, :height].to(torch.int32)
    luma = luma.mul_(8 * by.y).sub_(by.y_offset * by.y).bitwise_right_shift_(16).to(torch.int16)
    u, v = planes.to(torch.int32).sub_(128).unbind(1)
    shift = torch.bitwise_right_shift
    green = shift(u * (8 * by.u_green), 16) + shift(v * (8 * by.v_green), 16)
    red, blue = shift(v * (8 * by.v_red), 16), shift(u * (8 * by.u_blue), 16)
    # Each chroma sample lies over two by two pixels.
    out = rgb.view(count, 3, height // 2, 2, width // 2, 2)
    luma = luma.view(count, height // 2, 2, width // 2, 2)
    for channel, offset in enumerate((red, green, blue)):
        levels = luma + offset.to(torch.int16)[:, :, None, :, None]
        out[:, channel] = levels.clamp_(0, 255)


@dataclass(frozen=True)
class Preprocessing:
    """How a checkpoint wants its pictures: resized, cropped, scaled, normalised; in this order."""

    resample: Resample | None
    """None where pictures are not resized at all."""
    height: int | None = None
    width: int | None = None
    """Both: the exact size, whatever the picture's shape."""
    shortest_edge: int | None = None
    longest_edge: int | None = None
    """Upper bound that goes before `shortest_edge`."""
    side_multiple: int = 1
    """Sides are cut down to multiples of this."""
    crop: tuple[int, int] | None = None
    """(height, width) from the middle."""
    scale: float = 1.0
    """What a level 0..255 is multiplied by."""
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    """Of the scaled values."""
    antialias: bool = True
    """False: scaled levels are resized as floats, each out of its nearest four."""
    patch_size: int | None = None
    """Pictures keep their shape and are cut into squares of so many pixels, row by row ..."""
    max_patches: int = 0
    """... as many as there can be up to this, filled up with empty ones."""

    @classmethod
    def from_folder(cls, folder: Path) -> Preprocessing:
        """Read a checkpoint's preprocessor_config.json.

        Raises ConfigError naming the file and the key where it asks for something else than
        this class does, rather than feed the model other pictures than it was trained on.
        """
        path, given = read_processor_config(folder)
        settings = complete_processor_config(path, given)
        fields: dict[str, Any] = {"resample": None}
        if "patch_size" in settings:
            fields["resample"] = _RESAMPLE.get(settings["resample"])
            fields["patch_size"] = int(settings["patch_size"])
            fields["max_patches"] = int(settings["max_num_patches"])
        elif settings["do_resize"]:
            fields.update(_resizing(path, settings))
            fields["antialias"] = settings.get("antialias", True)
        if settings["do_center_crop"]:
            fields["crop"] = _crop(path, settings["crop_size"], fields)
        if settings["do_rescale"]:
            fields["scale"] = _number(path, "rescale_factor", settings["rescale_factor"])
        if settings["do_normalize"]:
            fields["mean"] = _three(path, "image_mean", settings["image_mean"])
            fields["std"] = _three(path, "image_std", settings["image_std"])
        return cls(**fields)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) after resizing and before cropping, rounded as transformers does."""
        if self.patch_size is not None:
            return patched_size(height, width, self.patch_size, self.max_patches)
        if self.resample is None:
            return height, width
        if self.height is not None and self.width is not None:
            return self.height, self.width
        assert self.shortest_edge is not None
        short, long = min(height, width), max(height, width)
        exact_short: float = self.shortest_edge
        new_short = self.shortest_edge
        if self.longest_edge is not None and long / short * new_short > self.longest_edge:
            exact_short = self.longest_edge * short / long
            new_short = round(exact_short)
        new_long = long if short == new_short else int(exact_short * long / short)
        new_short, new_long = (side - side % self.side_multiple for side in (new_short, new_long))
        return (new_long, new_short) if width < height else (new_short, new_long)

    @property
    def smallest_side(self) -> int | None:
        """Pixels of the shorter side from which on no picture has to be enlarged; None where
        pictures are not resized, so that a smaller one is another."""
        if self.patch_size is not None:
            return self.patch_size * math.isqrt(self.max_patches)
        if self.height is not None and self.width is not None:
            return max(self.height, self.width)
        return self.shortest_edge

    def inputs(self, rgb: torch.Tensor, *, exact: bool) -> dict[str, torch.Tensor]:
        """What the model is called with: `pixel_values`, and for patches which of them there are
        (`pixel_attention_mask` (N, max_patches)) and how they lie (`spatial_shapes` (N, 2))."""
        pictures = self.apply(rgb, exact=exact)
        if self.patch_size is None:
            return {"pixel_values": pictures}
        return in_patches(pictures, self.patch_size, self.max_patches)

    def apply(self, rgb: torch.Tensor, *, exact: bool) -> torch.Tensor:
        """uint8 (N, 3, height, width) to float32 (N, 3, h, w) on the same device.

        `exact` is that of `resizing.resize`.
        """
        import torch

        target = self.resized(*rgb.shape[-2:])
        if not self.antialias and self.resample is not None:
            return self._normalised(_interpolated(rgb, target, self.resample, self.scale))
        small = resize(rgb, target, self.resample, exact=exact) if self.resample else rgb
        if self.crop is not None:
            top, left = (have - want for have, want in zip(target, self.crop, strict=True))
            top, left = top // 2, left // 2
            small = small[:, :, top : top + self.crop[0], left : left + self.crop[1]]
        return self._normalised(small.to(torch.float32).mul_(self.scale))

    def _normalised(self, scaled: torch.Tensor) -> torch.Tensor:
        """In place, float32 (N, 3, h, w)."""
        import torch

        if self.mean is None or self.std is None:
            return scaled
        mean = torch.tensor(self.mean, device=scaled.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=scaled.device).view(3, 1, 1)
        return scaled.sub_(mean).div_(std)


def _interpolated(
    rgb: torch.Tensor, target: tuple[int, int], mode: Resample, scale: float
) -> torch.Tensor:
    from torch.nn import functional

    floats = rgb.float().mul_(scale)
    return functional.interpolate(floats, size=target, mode=mode, align_corners=False)


def patched_size(height: int, width: int, patch: int, most: int) -> tuple[int, int]:
    """(height, width) in whole patches, as large as `most` of them allow.

    Source: transformers, `get_image_size_for_max_num_patches` in
    models/siglip2/image_processing_pil_siglip2.py: the scale is searched for by halving, and its
    last step decides about a row of patches more or less.
    """

    def scaled(scale: float) -> tuple[int, int]:
        rows, columns = (
            max(1, math.ceil(side * scale / patch)) * patch for side in (height, width)
        )
        return rows, columns

    low, high = 1e-6, 100.0
    while high - low >= 1e-5:
        middle = (low + high) / 2
        rows, columns = scaled(middle)
        if (rows // patch) * (columns // patch) <= most:
            low = middle
        else:
            high = middle
    return scaled(low)


def in_patches(pictures: torch.Tensor, patch: int, most: int) -> dict[str, torch.Tensor]:
    """float32 (N, 3, h, w) as squares of `patch` pixels, row by row, each row, column, channel.

    Returns `pixel_values` float32 (N, most, patch * patch * 3), `pixel_attention_mask` int32
    (N, most) and `spatial_shapes` int64 (N, 2): rows and columns of patches.
    """
    import torch
    from torch.nn import functional

    count, channels, height, width = pictures.shape
    rows, columns = height // patch, width // patch
    cells = pictures.view(count, channels, rows, patch, columns, patch)
    patches = cells.permute(0, 2, 4, 3, 5, 1).reshape(count, rows * columns, -1)
    there = torch.arange(most, device=pictures.device) < rows * columns
    return {
        "pixel_values": functional.pad(patches, (0, 0, 0, most - rows * columns)),
        "pixel_attention_mask": there.to(torch.int32).expand(count, -1),
        "spatial_shapes": torch.tensor([[rows, columns]], device=pictures.device).repeat(count, 1),
    }


def _resizing(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    size = settings["size"]
    known = ({"height", "width"}, {"shortest_edge"}, {"shortest_edge", "longest_edge"})
    if not isinstance(size, dict):
        raise ConfigError(f"{path}: size = {size!r} is not supported")
    size = {key: value for key, value in size.items() if value is not None}
    if set(size) not in known or not all(type(v) is int and v > 0 for v in size.values()):
        raise ConfigError(f"{path}: size = {size!r} is not supported")
    if type(settings["resample"]) is not int or settings["resample"] not in _RESAMPLE:
        raise ConfigError(
            f"{path}: resample = {settings['resample']!r} is not supported; 0, 2 and 3 are"
        )
    fields = {"resample": _RESAMPLE[settings["resample"]], **size}
    if "shortest_edge" in size:
        fields["side_multiple"] = settings.get("side_multiple", 1)
    return fields


def _crop(path: Path, size: object, resizing: dict[str, Any]) -> tuple[int, int]:
    if not isinstance(size, dict) or set(size) != {"height", "width"}:
        raise ConfigError(f"{path}: crop_size = {size!r} is not supported")
    crop = (int(size["height"]), int(size["width"]))
    shortest = 0 if "longest_edge" in resizing else resizing.get("shortest_edge", 0)
    least = (resizing.get("height", shortest), resizing.get("width", shortest))
    if crop[0] > least[0] or crop[1] > least[1]:
        # Such a crop would have to be filled up with black.
        raise ConfigError(f"{path}: crop_size = {size!r} is larger than the resized picture")
    return crop


def _three(path: Path, key: str, value: object) -> tuple[float, float, float]:
    if not isinstance(value, list) or len(value) != 3:
        raise ConfigError(f"{path}: {key} = {value!r} is not supported; three numbers are")
    red, green, blue = (_number(path, key, number) for number in value)
    return red, green, blue


def _number(path: Path, key: str, value: object) -> float:
    """All of these numbers are above zero in any checkpoint; a zero would be divided by."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
        raise ConfigError(f"{path}: {key} = {value!r} is not supported; a number above 0 is")
    return float(value)
