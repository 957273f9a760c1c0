"""From what a user names to the files of a corpus, streamed: nothing is listed twice or held."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.errors import UsageError, is_systemic
from pipeline.records import Failure, Source
from pipeline.sources.folders import Found, match, walk

Links = Literal["inside", "anywhere"]


@dataclass
class Discovery:
    """How inputs are searched, and what was left out on the way."""

    links: Links = "inside"
    """Links found in a folder or by a glob lead to files in it, or `anywhere`: out of it, and to
    folders, each of which is visited once."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Files of folders that look like videos by an ending that is not searched for, by ending."""

    def note(self) -> str | None:
        """What a user should hear of what was left out."""
        if not self.left_out:
            return None
        endings = ", ".join(f"{count:,} {name}" for name, count in sorted(self.left_out.items()))
        return f"folders: left out for their endings: {endings} (name files outright to try them)"


def discover(
    inputs: Iterable[str], discovery: Discovery | None = None
) -> Iterator[Source | Failure]:
    """Every file that `inputs` name, in a stable order, each with one stat.

    An input is a file, a folder (searched recursively for video endings), a glob (`**` for any
    depth), or a text list of such inputs, one a line (`@list.txt` or a `.txt` file; `#` starts a
    comment line; relative names are taken from the list's folder).

    Raises UsageError for an input that names nothing at all. A file that cannot be seen (broken
    link, permission, a link that leads out of its folder) is yielded as a Failure: one bad file
    ends no run.
    """
    discovery = discovery or Discovery()
    for name in inputs:
        yield from _expand(name, Path(), discovery, seen_lists=())


def check_inputs(inputs: Iterable[str]) -> None:
    """Raise UsageError for a name that is nowhere, before anything is done for the others."""
    for name in inputs:
        path = os.path.expanduser(name.removeprefix("@"))
        there = any(os.path.lexists(path) for path in (os.path.expanduser(name), path))
        if not there and (name.startswith("@") or not glob.has_magic(name)):
            raise UsageError(f"input {name}: no such file or folder")


def _expand(
    name: str, base: Path, discovery: Discovery, seen_lists: tuple[str, ...]
) -> Iterator[Source | Failure]:
    listed = name.startswith("@") and not os.path.lexists(base / name)
    path = os.path.join(base, os.path.expanduser(name[1:] if listed else name))
    if listed or (path.lower().endswith(".txt") and os.path.isfile(path)):
        yield from _listed(path, discovery, seen_lists)
    elif os.path.isdir(path):
        # Absolute once, and not again for every file.
        folder = os.path.abspath(path)
        yield from _each(walk(folder, discovery.links == "anywhere", discovery.left_out))
    elif os.path.lexists(path):
        yield _stat(path)
    elif glob.has_magic(path):
        yield from _glob(path, discovery)
    else:
        if seen_lists:
            # One stale line of a list of thousands is a failure of that line.
            yield Failure(uri=_uri(path), stage="discover", reason="no such file or folder")
            return
        raise UsageError(f"input {name}: no such file or folder")


def _listed(
    path: str, discovery: Discovery, seen_lists: tuple[str, ...]
) -> Iterator[Source | Failure]:
    real = os.path.realpath(path)
    if real in seen_lists:
        raise UsageError(f"input list {path}: names itself")
    try:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                name = line.rstrip("\r\n")
                if name.strip() and not name.lstrip().startswith("#"):
                    yield from _expand(name, Path(path).parent, discovery, (*seen_lists, real))
    except (OSError, UnicodeDecodeError) as error:
        reason = str(error.strerror) if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"input list {path}: {reason}") from None


def _glob(pattern: str, discovery: Discovery) -> Iterator[Source | Failure]:
    found = False
    for item in _each(match(pattern, discovery.links == "anywhere")):
        found = True
        yield item
    if not found:
        raise UsageError(f"input {pattern}: the pattern matches no file")


def _each(found: Iterable[Found]) -> Iterator[Source | Failure]:
    for item in found:
        if item.problem:
            yield Failure(uri=_uri(_readable(item.path)), stage="discover", reason=item.problem)
        else:
            yield _stat(item.path)


def _stat(path: str) -> Source | Failure:
    if _readable(path) != path:
        return Failure(_uri(_readable(path)), "discover", "the name is not UTF-8")
    try:
        status = os.stat(path)
    except OSError as error:
        reason = str(error.strerror)
        return Failure(_uri(path), "discover", reason, systemic=is_systemic(error))
    if not stat.S_ISREG(status.st_mode):
        # Opening a pipe would wait for whoever writes to it.
        return Failure(uri=_uri(path), stage="discover", reason="not a regular file")
    return Source(uri=_uri(path), stamp=stamp_of(status), size_bytes=status.st_size)


def _readable(path: str) -> str:
    """Bytes that are no UTF-8 come from the system as lone surrogates, which no table holds."""
    return path.encode("utf-8", "backslashreplace").decode()


def _uri(path: str) -> str:
    """The absolute path, so that the same file has one name whatever folder a run starts in."""
    return os.path.abspath(path)


def stamp_of(status: os.stat_result) -> str:
    """`size:mtime_ns`: differs when the bytes may differ."""
    return f"{status.st_size}:{status.st_mtime_ns}"
