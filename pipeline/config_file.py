"""A configuration from a YAML file, with overrides; what is wrong with it, in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.config import Config
from pipeline.errors import ConfigError

_NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)
"""A date or number that Python cannot build is a ValueError of its own."""


def parse_config(data: object, *, where: str, overrides: tuple[str, ...] = ()) -> Config:
    """`data` (as YAML gave it) with `--set a.b=c` overrides to a Config.

    Raises ConfigError naming `where`, the key and the value.
    """
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: the top level must be keys and values, not {data!r}")
    for override in overrides:
        _apply(data, override)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_first_problem(error)}") from None


def load_config(path: str | Path, overrides: tuple[str, ...] = ()) -> Config:
    """Read a YAML file. Raises ConfigError naming the file, the key and the value.

    Models given as relative paths that exist beside the file are taken from there.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the configuration: {_why(error)}") from None
    try:
        data = yaml.safe_load(text)
    except _NOT_YAML as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    data = _beside(data, path.parent)
    return parse_config(data, where=str(path), overrides=overrides)


def _why(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _beside(data: Any, folder: Path) -> Any:
    """Model folders and files written relative to the configuration file, made absolute."""
    for part in ("detector", "embedder", "tracker") if isinstance(data, dict) else ():
        section = data.get(part)
        for key in ("model", "config", "weights", "prompts") if isinstance(section, dict) else ():
            name = section.get(key)
            if isinstance(name, str) and (folder / name).exists() and not Path(name).exists():
                section[key] = str((folder / name).resolve())
    return data


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: expected KEY=VALUE such as sampling.stride=4")
    node = data
    *parents, last = key.strip().split(".")
    for name in parents:
        child = node.setdefault(name, {})
        if child is None:
            child = node[name] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: {name} is a value, not a section")
        node = child
    try:
        node[last] = yaml.safe_load(value)
    except _NOT_YAML:
        raise ConfigError(f"--set {override}: {value!r} is not a YAML value") from None


def _first_problem(error: ValidationError) -> str:
    """One line for the user out of pydantic's report: key, value, what to do."""
    problem = error.errors()[0]
    # Pydantic puts the tags of unions into the path; they are no keys of the file.
    tags = {"probe", "clip", "transformers", "detectron2", "bytetrack", "ocsort", "sam2"}
    names = [str(part) for part in problem["loc"]]
    names = [n for i, n in enumerate(names) if not (i == 1 and n in tags)]
    names = [n for n in names if not n.startswith(("function-", "constrained-", "literal["))]
    key = ".".join(names) or "the top level"
    message = problem["msg"].removeprefix("Value error, ")
    if names[:1] == ["alert"]:
        return f"{key}: {message}"  # Its value may be the secret that it is not to be.
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key} (value {problem['input']!r}); see configs/demo.yaml for all keys"
    if problem["type"] == "union_tag_not_found":
        return f"{key}.backend is missing; see configs/demo.yaml for what there is"
    if problem["type"] == "union_tag_invalid":
        given, known = problem["ctx"]["tag"], problem["ctx"]["expected_tags"]
        return f"{key}.backend = {given!r}: one of {known} is expected"
    if problem["type"] == "missing":
        return f"{key} is missing"
    return f"{key} = {problem['input']!r}: {message}"
