"""From what a user names to the files of a corpus, streamed: nothing is listed twice or held."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from pipeline.errors import FrameledgerError, UsageError, is_systemic
from pipeline.records import Failure, Source
from pipeline.sources import buckets
from pipeline.sources.folders import Found, match, walk
from pipeline.storage import objects
from pipeline.storage.objects import Stat, StoreError
from pipeline.storage.uris import NO_BUCKET, is_remote, join, names_bucket, unknown_scheme

Links = Literal["inside", "anywhere"]
_LINES = 256
"""Of a list, looked at together: objects among them are asked for several at once."""


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
    comment line; relative names are taken from the list's folder). Each of them may lie in an
    object store; a folder is then all that its name and a slash begin, known by its listing.

    Raises UsageError for an input that names nothing at all, RunAborted where a store is away. A
    file that cannot be seen (broken link, permission, a link that leads out of its folder) is
    yielded as a Failure: one bad file ends no run.
    """
    discovery = discovery or Discovery()
    for name in inputs:
        yield from _expand(name, _List(), discovery)


def check_inputs(inputs: Iterable[str]) -> None:
    """Raise UsageError for a name that is nowhere, before anything is done for the others."""
    for name in inputs:
        path = os.path.expanduser(name.removeprefix("@"))
        if is_remote(path):
            buckets.check(path)
            continue
        there = any(os.path.lexists(path) for path in (os.path.expanduser(name), path))
        if not there and (name.startswith("@") or not glob.has_magic(name)):
            raise UsageError(f"input {name}: {_nowhere(name)}")


def look(uri: str) -> Source:
    """A file as it is now. Raises OSError."""
    if is_remote(uri):
        return _source(objects.stat(uri))
    status = os.stat(uri)
    return Source(uri, stamp_of(status), status.st_size, status.st_mtime)


def look_again(sources: Sequence[Source]) -> list[Source]:
    """Sources as they are now, where they were listed some time ago, without those that are gone
    or cannot be seen any more."""
    objects_now = buckets.find_many([source.uri for source in sources])
    found = []
    for source in sources:
        now: object = objects_now.get(source.uri)
        if source.uri not in objects_now:
            now = _stat(source.uri)
        elif isinstance(now, Stat):
            now = _source(now)
        elif isinstance(now, StoreError):
            now = source  # Whoever reads it says what is the matter.
        if isinstance(now, Source):
            found.append(now)
    return found


def stamp_of(status: os.stat_result) -> str:
    """`size:mtime_ns`: differs when the bytes may differ."""
    return f"{status.st_size}:{status.st_mtime_ns}"


@dataclass(frozen=True)
class _List:
    """Where a name was found: in a text list, or (by default) outright."""

    base: str = ""
    """Relative names start here."""
    open: tuple[str, ...] = ()
    """The list and those that name it."""
    found: dict[str, Stat | StoreError | None] = field(default_factory=dict)
    """Of its objects, as far as they have been asked for."""


def _expand(name: str, where: _List, discovery: Discovery) -> Iterator[Source | Failure]:
    listed = name.startswith("@") and not os.path.lexists(os.path.join(where.base, name))
    path = _place(name[1:] if listed else name, where.base)
    if is_remote(path):
        yield from _expand_uri(path, listed, where, discovery)
    elif listed or (path.lower().endswith(".txt") and os.path.isfile(path)):
        yield from _listed(path, where, discovery)
    elif os.path.isdir(path):
        # Absolute once, and not again for every file.
        folder = os.path.abspath(path)
        yield from _each(walk(folder, discovery.links == "anywhere", discovery.left_out))
    elif os.path.lexists(path):
        yield _stat(path)
    elif glob.has_magic(path):
        yield from _matching(path, _each(match(path, discovery.links == "anywhere")))
    else:
        yield _unusable(name, _uri(path), UsageError(_nowhere(name)), where)


def _place(name: str, base: str) -> str:
    """The path or URI that `name` means in a list that lies in `base`."""
    name = os.path.expanduser(name)
    if is_remote(name) or os.path.isabs(name) or unknown_scheme(name):
        return name
    return join(base, name) if base else name


def _nowhere(name: str) -> str:
    scheme = unknown_scheme(name)
    if scheme is None:
        return "no such file or folder"
    return f"{scheme}:// is not known: s3://, gs://, az:// and local files are"


def _unusable(
    name: str, uri: str, error: FrameledgerError, where: _List, systemic: bool = False
) -> Failure:
    """One stale line of a list of thousands is a failure of that line. Raises, with its name in
    it, the error of an input that the user gave."""
    if where.open:
        return Failure(uri=uri, stage="discover", reason=str(error), systemic=systemic)
    raise type(error)(f"input {name}: {error}")


def _listed(path: str, where: _List, discovery: Discovery) -> Iterator[Source | Failure]:
    real = path if is_remote(path) else os.path.realpath(path)
    if real in where.open:
        raise UsageError(f"input list {path}: names itself")
    within = _List(os.path.dirname(path), (*where.open, real))
    try:
        names = (name for name in _lines(path) if name.strip() and name.lstrip()[0] != "#")
        while batch := list(islice(names, _LINES)):
            within.found.clear()
            within.found.update(buckets.find_many([_place(name, within.base) for name in batch]))
            for name in batch:
                yield from _expand(name, within, discovery)
    except (OSError, UnicodeDecodeError) as error:
        reason = str(error.strerror) if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"input list {path}: {reason}") from None


def _lines(path: str) -> Iterator[str]:
    if is_remote(path):
        yield from objects.read(path).decode("utf-8").splitlines()
        return
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            yield line.rstrip("\r\n")


def _matching(pattern: str, items: Iterator[Source | Failure]) -> Iterator[Source | Failure]:
    found = False
    for item in items:
        found = True
        yield item
    if not found:
        raise UsageError(f"input {pattern}: the pattern matches no file")


# -- local files ----------------------------------------------------------------------


def _each(found: Iterable[Found]) -> Iterator[Source | Failure]:
    for item in found:
        if item.problem:
            yield Failure(uri=_uri(readable(item.path)), stage="discover", reason=item.problem)
        else:
            yield _stat(item.path)


def _stat(path: str) -> Source | Failure:
    if readable(path) != path:
        return Failure(_uri(readable(path)), "discover", "the name is not UTF-8")
    try:
        status = os.stat(path)
    except OSError as error:
        return _unseen(_uri(path), error)
    if not stat.S_ISREG(status.st_mode):
        # Opening a pipe would wait for whoever writes to it.
        return Failure(uri=_uri(path), stage="discover", reason="not a regular file")
    return Source(_uri(path), stamp_of(status), status.st_size, status.st_mtime)


def _unseen(uri: str, error: OSError) -> Failure:
    return Failure(uri, "discover", str(error.strerror), systemic=is_systemic(error))


def readable(path: str) -> str:
    """Bytes that are no UTF-8 come from the system as lone surrogates, which no table holds."""
    return path.encode("utf-8", "backslashreplace").decode()


def _uri(path: str) -> str:
    """The absolute path, so that the same file has one name whatever folder a run starts in."""
    return path if unknown_scheme(path) else os.path.abspath(path)


# -- objects --------------------------------------------------------------------------


def _expand_uri(
    uri: str, listed: bool, where: _List, discovery: Discovery
) -> Iterator[Source | Failure]:
    if not names_bucket(uri):
        yield _unusable(uri, uri, UsageError(NO_BUCKET), where)
        return
    try:
        if listed or uri.lower().endswith(".txt"):
            yield from _listed(uri, where, discovery)
            return
        found = where.found[uri] if uri in where.found else buckets.find(uri)
        if isinstance(found, StoreError):
            raise found
        if found is not None:
            yield _source(found)
        elif buckets.is_pattern(uri):
            yield from _matching(uri, map(_source, buckets.match(uri)))
        else:
            yield from _below(uri, where, discovery)
    except StoreError as error:
        yield _unusable(uri, uri, buckets.for_the_user(error), where, is_systemic(error))


def _below(uri: str, where: _List, discovery: Discovery) -> Iterator[Source | Failure]:
    anything = False
    for found in buckets.walk(uri, discovery.left_out):
        anything = True
        if found is not None:
            yield _source(found)
    if not anything:
        yield _unusable(uri, uri, UsageError(buckets.NOTHING), where)


def _source(found: Stat) -> Source:
    return Source(found.uri, found.stamp, found.size_bytes, found.modified_s)
