"""The table of models where Ray cannot be imported: `python -m tests.benchmarks.without_ray WORK`.

A tiny model stands for those of full size, and another for one whose library is missing.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.full_size import MODELS, FullSize
from benchmarks.models import Row, print_rows
from pipeline.errors import ConfigError


def tiny(_work: Path) -> FullSize:
    import torch

    from pipeline.analyzers.models import resolve_model
    from pipeline.analyzers.towers import load_tower

    model, features = load_tower(resolve_model("builtin:clip"), "image")
    size = model.config.image_size
    section = {"embedder": {"backend": "clip", "model": "builtin:clip"}}

    def ready(batch, _height, _width, device):
        pixels = torch.zeros(batch, 3, size, size, device=device)
        return lambda: features(pixel_values=pixels)

    return FullSize(section, ready)


def missing(_work: Path) -> FullSize:
    raise ConfigError("its library is not installed")


def main() -> None:
    sys.modules["ray"] = None  # type: ignore[assignment]
    MODELS.update(tiny=tiny, missing=missing)
    work = Path(sys.argv[1])
    rows = [
        Row("missing", 90, "bf16", batch=8, clip=8, frames=16),
        Row("tiny", 90, "bf16", batch=4, clip=8, frames=8),
    ]
    print_rows(rows, work, "cpu", rounds=1, feed=True, json_file=str(work / "figures.json"))


if __name__ == "__main__":
    main()
