"""What a writer holds that no table has yet, in files that outlive its process.

A commit is dear and waits until it pays; a journal entry is one write to a local file. Whoever
finds the journal of a process that died commits what is in it, under the ids that the process
would have used, so that nothing is lost and nothing lands twice.

    OUTPUT/_journal/RUN/NONCE-0003.journal      entries since the last commit; each file begins
                                                with what of the driver's reports is known
    entry = length (8 bytes), crc32 (4 bytes), Arrow IPC streams one behind another

A file may end in half an entry, where its writer was killed: that one was never acknowledged.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.errors import RunAborted

FOLDER = "_journal"
_HEAD = struct.Struct("<QI")
_META = b"frameledger"


@dataclass(frozen=True)
class Note:
    """A table of an entry, and what it is."""

    kind: str
    """`index`, `rows` and `shard` (of one shard in one analysis), `failures`, `videos`, `mark`."""
    rows: pa.Table
    name: str = ""
    """The id under which an index or a shard is committed."""
    table: str = ""
    """Where `rows` go."""
    facts: dict[str, Any] = field(default_factory=dict)


class Journal:
    """One writer's files. Raises RunAborted where they cannot be written."""

    def __init__(self, root: str, run_id: str, nonce: str) -> None:
        self.folder = Path(root) / FOLDER / run_id
        self._nonce = nonce
        self._number = 0
        self._old = [self.folder / name for name in _files(self.folder)]
        """Of earlier processes of this run."""
        self._file: Any = None

    @property
    def batch(self) -> str:
        """Names the entries of the file that is open now."""
        return batch_of(self.folder.name, self._path.name)

    @property
    def is_open(self) -> bool:
        return self._file is not None

    @property
    def _path(self) -> Path:
        return self.folder / f"{self._nonce}-{self._number:04d}.journal"

    def write(self, notes: Iterable[Note]) -> None:
        """Add one entry, all of it or nothing."""
        payload = _packed(notes)
        rest = memoryview(_HEAD.pack(len(payload), zlib.crc32(payload)) + payload)
        try:
            while rest:  # A disk that is nearly full takes a part, and says no to the next.
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise self._full(error) from error

    def turn(self, mark: dict[str, Any]) -> None:
        """All that was written has been committed: begin a new file, drop the ones before.

        `mark` is found at the beginning of the new one.
        """
        before = [*self._old, *([self._path] if self._file else [])]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._file is not None:
                self._file.close()
            self._number += 1
            new = self._path.with_suffix(".new")
            self._file = open(new, "wb", buffering=0)  # noqa: SIM115
            self.write([Note("mark", pa.table({}), facts=mark)])
            os.replace(new, self._path)
            for path in before:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise self._full(error) from error
        self._old = []

    def _full(self, error: OSError) -> RunAborted:
        root, name = self.folder.parents[1], f"{FOLDER}/{self.folder.name}/{self._path.name}"
        return RunAborted(f"output {root}: cannot write {name}: {error.strerror}")

    def remove(self) -> None:
        """Nothing is left that no table has."""
        if self._file is not None:
            self._file.close()
            self._file = None
        remove_journal(self.folder)


def journals(root: str) -> list[str]:
    """Runs of which a journal is left."""
    try:
        return sorted(entry.name for entry in os.scandir(Path(root) / FOLDER) if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_journal(root: str, run_id: str) -> Iterator[tuple[str, list[Note]]]:
    """(batch, entry) of all that a run has left, oldest first as far as that is known."""
    folder = Path(root) / FOLDER / run_id
    for name in _files(folder):
        try:
            data = (folder / name).read_bytes()
        except FileNotFoundError:
            continue  # Somebody else has dealt with it meanwhile.
        except OSError as error:
            raise _unreadable(folder / name, error) from error
        for entry in _entries(data):
            yield batch_of(run_id, name), entry


def remove_journal(folder: Path) -> None:
    """Remove a run's journal, and the folder of journals where that was the last."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # Other runs have theirs there.
        folder.parent.rmdir()


def batch_of(run_id: str, name: str) -> str:
    """What the rows of one file that speak of no shard are committed as."""
    return f"{run_id}-{name.removesuffix('.journal')}"


def _files(folder: Path) -> list[str]:
    try:
        found = [entry.name for entry in os.scandir(folder) if entry.name.endswith(".journal")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unreadable(folder, error) from error
    return sorted(found, key=lambda name: (_mtime_ns(folder / name), name))


def _unreadable(path: Path, error: OSError) -> RunAborted:
    return RunAborted(
        f"{path}: cannot read the journal of a run: {error.strerror}; make it readable, or remove "
        "it, and what is in it is done again"
    )


def _mtime_ns(path: Path) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0  # Somebody else has dealt with it meanwhile.


def _packed(notes: Iterable[Note]) -> bytes:
    sink = pa.BufferOutputStream()
    for note in notes:
        meta = {"kind": note.kind, "name": note.name, "table": note.table, "facts": note.facts}
        schema = note.rows.schema.with_metadata({_META: json.dumps(meta)})
        with pa.ipc.new_stream(sink, schema) as stream:
            stream.write_table(note.rows)
    return sink.getvalue().to_pybytes()


def _entries(data: bytes) -> Iterator[list[Note]]:
    at = 0
    while at + _HEAD.size <= len(data):
        length, crc = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        payload = data[at : at + length]
        if len(payload) < length or zlib.crc32(payload) != crc:
            return  # Cut by a kill, or by a machine that went down.
        yield list(_unpacked(payload))
        at += length


def _unpacked(payload: bytes) -> Iterator[Note]:
    source = pa.BufferReader(payload)
    while source.tell() < len(payload):
        rows = pa.ipc.open_stream(source).read_all()
        meta = json.loads(rows.schema.metadata[_META])
        kind, name, table, facts = (meta[key] for key in ("kind", "name", "table", "facts"))
        yield Note(kind, rows.replace_schema_metadata(None), name, table, facts)
