"""Whether parsed YAML is of a type, with nothing in it that the type does not know.

Kubernetes' own models let unknown fields pass; a server drops them, or refuses the object.
"""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin

from msgspec import Struct
from msgspec.structs import fields


def check(value: Any, kind: Any, where: str) -> None:
    """Raise ValueError naming the path of the first thing that is not of its type.

    Args:
        kind: a msgspec Struct, list[...], dict[str, ...], a Union, a Literal or a plain type.
        where: path of `value`, for the message.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any or (origin is None and kind is dict):
        return
    if origin in (Union, types.UnionType):
        _check_any(value, [one for one in inner if one is not type(None)], where)
    elif origin is Literal:
        if value not in inner:
            raise ValueError(f"{where}: {value!r} is none of {', '.join(map(repr, inner))}")
    elif origin is list:
        if not isinstance(value, list):
            raise ValueError(f"{where}: a list is expected, not {value!r}")
        for number, item in enumerate(value):
            check(item, inner[0], f"{where}[{number}]")
    elif origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{where}: a mapping is expected, not {value!r}")
        for key, item in value.items():
            check(item, inner[1], f"{where}.{key}")
    elif isinstance(kind, type) and issubclass(kind, Struct):
        _check_fields(value, kind, where)
    elif type(value) is not kind:
        raise ValueError(f"{where}: {kind.__name__} is expected, not {value!r}")


def _check_any(value: Any, kinds: list[Any], where: str) -> None:
    problems = []
    for kind in kinds:
        try:
            return check(value, kind, where)
        except ValueError as problem:
            problems.append(problem)
    raise problems[0]


def _check_fields(value: Any, kind: type[Struct], where: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: fields of {kind.__name__} are expected, not {value!r}")
    known = {field.encode_name: field for field in fields(kind)}
    for key, item in value.items():
        if key not in known:
            raise ValueError(f"{where}.{key}: {kind.__name__} has no such field")
        check(item, known[key].type, f"{where}.{key}")
    for name, field in known.items():
        if field.required and name not in value:
            raise ValueError(f"{where}.{name}: is missing")
