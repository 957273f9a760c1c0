"""The classes of the configured detector, without loading it."""

from __future__ import annotations

import json

from pipeline.analyzers.models import resolve_model
from pipeline.config import Config
from pipeline.errors import ConfigError


def class_ids(config: Config) -> dict[str, int]:
    """Ids by name. Raises ConfigError where the model cannot be found, or names none."""
    from pipeline.analyzers.registry import build_analyzers

    assert config.detector is not None
    if config.detector.backend == "transformers":
        folder = resolve_model(config.detector.model, config.detector.revision)
        names = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("id2label")
        if not isinstance(names, dict):
            raise ConfigError(f"{folder / 'config.json'}: id2label is missing: no class has a name")
        return {str(name): int(number) for number, name in names.items()}
    detector = next(one for one in build_analyzers(config) if one.table == "detections")
    known = detector.identity().get("class_names")
    if not isinstance(known, list) or not known:
        raise ConfigError("detector.class_names is missing: prompts name classes; none is known")
    return {name: number for number, name in enumerate(known)}
