"""Searching buckets as `folders` does folders: by ending, or by a pattern, one listing streamed."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from pipeline.errors import FrameledgerError, RunAborted, UsageError
from pipeline.sources.folders import OTHER_VIDEO_SUFFIXES, VIDEO_SUFFIXES
from pipeline.storage.objects import NoBucket, Stat, StoreError, StoreRefused, listed, stat
from pipeline.storage.uris import NO_BUCKET, is_remote, join, names_bucket, split

_AT_ONCE = 16
"""Requests for single objects: each takes a store some 20 ms."""


def find(uri: str) -> Stat | None:
    """The object of that name, if there is one. Raises StoreError."""
    if uri.endswith("/") or not split(uri).key:
        return None
    try:
        return stat(uri)
    except FileNotFoundError:
        return None


def find_many(names: list[str]) -> dict[str, Stat | StoreError | None]:
    """The same for those of `names` that are URIs, asked for several at once."""

    def ask(uri: str) -> Stat | StoreError | None:
        try:
            return find(uri)
        except StoreError as error:
            return error

    uris = [name for name in names if is_remote(name) and names_bucket(name)]
    if not uris:
        return {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(uris, pool.map(ask, uris), strict=True))


NOTHING = "no such object, and nothing below it"


def check(uri: str) -> None:
    """Raise what is wrong with an input, as far as a request or two tell."""
    if not names_bucket(uri):
        raise UsageError(f"input {uri}: {NO_BUCKET}")
    try:
        if is_pattern(uri):
            next(listed(plain_prefix(uri)[0]), None)
        elif find(uri) is None and next(listed(uri), None) is None:
            raise UsageError(f"input {uri}: {NOTHING}")
    except StoreError as error:
        told = for_the_user(error)
        raise type(told)(f"input {uri}: {told}") from None


def for_the_user(error: StoreError) -> FrameledgerError:
    """The end of a run that cannot see what it was given."""
    mistake = isinstance(error, (NoBucket, StoreRefused))
    return (UsageError if mistake else RunAborted)(str(error.strerror))


def walk(uri: str, left_out: dict[str, int]) -> Iterator[Stat | None]:
    """Videos below `uri` by name, and None for every other object, hidden ones among them.

    Args:
        left_out: counts objects with endings of OTHER_VIDEO_SUFFIXES.
    """
    for found in listed(uri):
        names = _below(uri, found.uri)
        suffix = os.path.splitext(names[-1])[1].lower()
        hidden = any(name.startswith(".") for name in names)
        if suffix in OTHER_VIDEO_SUFFIXES and not hidden:
            left_out[suffix] = left_out.get(suffix, 0) + 1
        yield found if suffix in VIDEO_SUFFIXES and not hidden else None


def is_pattern(uri: str) -> bool:
    """Whether its key has wildcards."""
    return glob.has_magic(split(uri).key)


def match(pattern: str) -> Iterator[Stat]:
    """Objects that a pattern matches, by name: `*`, `?`, `[...]`, and `**` for any depth."""
    root, parts = plain_prefix(pattern)
    for found in listed(root):
        if _matches(_below(root, found.uri), parts):
            yield found


def plain_prefix(pattern: str) -> tuple[str, list[str]]:
    """The longest prefix without magic that ends a name, and the names behind it."""
    place = split(pattern)
    names = place.key.split("/")
    plain = next(i for i, name in enumerate(names) if glob.has_magic(name))
    return join(place._replace(key="").uri, *names[:plain]), names[plain:]


def _below(root: str, uri: str) -> list[str]:
    """The names of an object's key behind those of `root`."""
    key = split(root).key
    return split(uri).key[len(key) + 1 if key else 0 :].split("/")


def _matches(names: list[str], parts: list[str]) -> bool:
    if not parts or not names:
        return not parts and not names
    if parts == ["**"]:
        parts = ["**", "*"]
    part, *rest = parts
    visible = not names[0].startswith(".")
    if part == "**":
        return _matches(names, rest) or (visible and _matches(names[1:], parts))
    if glob.has_magic(part):
        return visible and fnmatch.fnmatch(names[0], part) and _matches(names[1:], rest)
    return names[0] == part and _matches(names[1:], rest)
