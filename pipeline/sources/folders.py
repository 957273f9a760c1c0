"""Searching folders: by ending, or by a pattern; links that lead round or out are seen to."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".qt", ".f4v", ".mkv", ".webm", ".avi", ".divx", ".flv"),
    *(".ts", ".mts", ".m2ts", ".m2t", ".trp", ".mpg", ".mpeg", ".mpe", ".vob"),
    *(".3gp", ".3g2", ".mj2"),
)
"""What a folder is searched for. A file named outright is taken whatever it is called."""

OTHER_VIDEO_SUFFIXES = (
    *(".wmv", ".asf", ".gif", ".ogv", ".ogm", ".rm", ".rmvb", ".mxf", ".dv", ".y4m", ".nut"),
    *(".h264", ".264", ".h265", ".265", ".hevc", ".m2v", ".m1v", ".ivf", ".wtv", ".apng"),
)
"""Of containers that are not read, or streams without one: left out, and counted."""


class Found(NamedTuple):
    """A file, or what could not be looked at and why."""

    path: str
    problem: str = ""


@dataclass
class _Search:
    """One folder that a user named, and what may be visited from there."""

    root: str
    everywhere: bool
    """Follow links out of the root, and links to folders."""
    visited: set[tuple[str, int]] = field(default_factory=set)
    """Real paths of folders that were entered, once for each part of a pattern that may."""

    def __post_init__(self) -> None:
        self._real_root = os.path.realpath(self.root)

    def entries(self, folder: str) -> tuple[list[os.DirEntry[str]], Found | None]:
        """What lies in a folder, by name and without what is hidden, or why that is not known."""
        try:
            with os.scandir(folder) as found:
                visible = [entry for entry in found if not entry.name.startswith(".")]
        except OSError as error:
            return [], Found(folder, f"folder: {error.strerror}")
        return sorted(visible, key=lambda entry: entry.name), None

    def enters(self, entry: os.DirEntry[str], part: int = 0) -> bool:
        """Whether to go into a folder. Without `everywhere` a link to one is not followed: if it
        leads back into the root, what is there is found there."""
        if not self.everywhere:
            return not entry.is_symlink()
        real = os.path.realpath(entry.path)
        if (real, part) in self.visited or real == self._real_root:
            return False
        self.visited.add((real, part))
        return True

    def outside(self, entry: os.DirEntry[str]) -> Found | None:
        """The refusal of a link that leads out of the root, unless that is allowed."""
        if self.everywhere or not entry.is_symlink():
            return None
        real = os.path.realpath(entry.path)
        if real == self._real_root or real.startswith(self._real_root.rstrip("/") + "/"):
            return None
        if not os.path.exists(entry.path):
            return None  # Whoever opens it says what is the matter.
        return Found(
            entry.path,
            f"a link that leads out of {self.root}; set links: anywhere, or name the file",
        )


def walk(folder: str, everywhere: bool, left_out: dict[str, int]) -> Iterator[Found]:
    """Videos below `folder`, depth first by name; hidden files and folders are passed over.

    Args:
        everywhere: follow links that lead out of `folder`, and links to folders.
        left_out: counts files with endings of OTHER_VIDEO_SUFFIXES.
    """
    yield from _walk(folder, _Search(folder, everywhere), left_out)


def _walk(folder: str, search: _Search, left_out: dict[str, int]) -> Iterator[Found]:
    entries, problem = search.entries(folder)
    if problem is not None:
        yield problem
    for entry in entries:
        suffix = os.path.splitext(entry.name)[1].lower()
        is_folder = _is_folder(entry)
        if is_folder or suffix in VIDEO_SUFFIXES:
            refused = search.outside(entry)
            if refused is not None:
                yield refused
            elif not is_folder:
                yield Found(entry.path)
            elif search.enters(entry):
                yield from _walk(entry.path, search, left_out)
        elif suffix in OTHER_VIDEO_SUFFIXES:
            left_out[suffix] = left_out.get(suffix, 0) + 1


def match(pattern: str, everywhere: bool) -> Iterator[Found]:
    """Files that a pattern matches, by name: `*`, `?`, `[...]`, and `**` for any depth.

    As `glob.glob`, which follows links round and round for `**`; here it enters real folders only,
    unless `everywhere`. Hidden names are matched by no wildcard.
    """
    parts = pattern.split("/")
    plain = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    root = "/".join(parts[:plain]) or ("/" if plain else ".")
    if os.path.isdir(root):
        yield from _match(root, parts[plain:], _Search(root, everywhere))


def _match(folder: str, parts: list[str], search: _Search) -> Iterator[Found]:
    part, *rest = parts
    if part == "**":
        yield from _match(folder, rest or ["*"], search)
    elif not glob.has_magic(part):
        path = os.path.join(folder, part)
        if rest and os.path.isdir(path):
            yield from _match(path, rest, search)
        elif not rest and os.path.lexists(path) and not os.path.isdir(path):
            yield Found(path)
        return
    entries, problem = search.entries(folder)
    if problem is not None and part != "**":
        yield problem
    for entry in entries:
        is_folder = _is_folder(entry)
        if part == "**":
            if is_folder and search.outside(entry) is None and search.enters(entry, len(parts)):
                yield from _match(entry.path, parts, search)
        elif fnmatch.fnmatch(entry.name, part) and is_folder == bool(rest):
            refused = search.outside(entry)
            if refused is not None:
                yield refused
            elif rest:
                yield from _match(entry.path, rest, search)
            else:
                yield Found(entry.path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # A link that leads to itself, or through what may not be seen.
