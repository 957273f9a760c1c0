"""From what a user names to the files of a corpus, streamed: nothing is listed twice or held."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.errors import UsageError, is_systemic
from pipeline.records import Failure, Source

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts"),
    *(".mpg", ".mpeg", ".vob", ".flv", ".3gp", ".3g2", ".mj2"),
)
"""What a folder is searched for. A file named outright is taken whatever it is called."""


def discover(inputs: Iterable[str]) -> Iterator[Source | Failure]:
    """Every file that `inputs` name, in a stable order, each with one stat.

    An input is a file, a folder (searched recursively for video suffixes), a glob (`**` for any
    depth), or a text list of such inputs, one a line (`@list.txt` or a `.txt` file; `#` starts a
    comment line; relative names are taken from the list's folder).

    Raises UsageError for an input that names nothing at all. A file that cannot be seen (broken
    link, permission) is yielded as a Failure: one bad file ends no run.
    """
    for name in inputs:
        yield from _expand(name, Path(), seen_lists=())


def check_inputs(inputs: Iterable[str]) -> None:
    """Raise UsageError for a name that is nowhere, before anything is done for the others."""
    for name in inputs:
        path = os.path.expanduser(name.removeprefix("@"))
        there = any(os.path.lexists(path) for path in (os.path.expanduser(name), path))
        if not there and (name.startswith("@") or not glob.has_magic(name)):
            raise UsageError(f"input {name}: no such file or folder")


def _expand(name: str, base: Path, seen_lists: tuple[str, ...]) -> Iterator[Source | Failure]:
    listed = name.startswith("@") and not os.path.lexists(base / name)
    path = os.path.join(base, os.path.expanduser(name[1:] if listed else name))
    if listed or (path.lower().endswith(".txt") and os.path.isfile(path)):
        yield from _listed(path, seen_lists)
    elif os.path.isdir(path):
        yield from _walk(os.path.abspath(path))  # once, and not again for every file
    elif os.path.lexists(path):
        yield _stat(path)
    elif glob.has_magic(path):
        yield from _glob(path)
    else:
        if seen_lists:
            # One stale line of a list of thousands is a failure of that line.
            yield Failure(uri=_uri(path), stage="discover", reason="no such file or folder")
            return
        raise UsageError(f"input {name}: no such file or folder")


def _listed(path: str, seen_lists: tuple[str, ...]) -> Iterator[Source | Failure]:
    real = os.path.realpath(path)
    if real in seen_lists:
        raise UsageError(f"input list {path}: names itself")
    try:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                name = line.rstrip("\r\n")
                if name.strip() and not name.lstrip().startswith("#"):
                    yield from _expand(name, Path(path).parent, (*seen_lists, real))
    except (OSError, UnicodeDecodeError) as error:
        reason = str(error.strerror) if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"input list {path}: {reason}") from None


def _walk(folder: str) -> Iterator[Source | Failure]:
    """Videos below `folder`, depth first by name. Linked folders are not followed: a link may
    lead back up, or out of what the user named."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        yield Failure(uri=_uri(folder), stage="discover", reason=f"folder: {error.strerror}")
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)
        elif os.path.splitext(entry.name)[1].lower() in VIDEO_SUFFIXES and not entry.is_dir():
            yield _stat(entry.path)


def _glob(pattern: str) -> Iterator[Source | Failure]:
    found = False
    for path in glob.iglob(pattern, recursive=True):
        if not os.path.isdir(path):
            found = True
            yield _stat(path)
    if not found:
        raise UsageError(f"input {pattern}: the pattern matches no file")


def _stat(path: str) -> Source | Failure:
    try:
        path.encode()
    except UnicodeEncodeError:
        # Bytes that are no UTF-8 come from the system as lone surrogates, which no table holds.
        readable = path.encode("utf-8", "backslashreplace").decode()
        return Failure(uri=_uri(readable), stage="discover", reason="the name is not UTF-8")
    try:
        status = os.stat(path)
    except OSError as error:
        reason = str(error.strerror)
        return Failure(_uri(path), "discover", reason, systemic=is_systemic(error))
    if not stat.S_ISREG(status.st_mode):
        # Opening a pipe would wait for whoever writes to it.
        return Failure(uri=_uri(path), stage="discover", reason="not a regular file")
    return Source(uri=_uri(path), stamp=stamp_of(status), size_bytes=status.st_size)


def _uri(path: str) -> str:
    """The absolute path, so that the same file has one name whatever folder a run starts in."""
    return os.path.abspath(path)


def stamp_of(status: os.stat_result) -> str:
    """`size:mtime_ns`: differs when the bytes may differ."""
    return f"{status.st_size}:{status.st_mtime_ns}"
