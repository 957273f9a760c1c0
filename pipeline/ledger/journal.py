"""What a writer holds that no table has yet, in files that outlive its process.

A commit is dear and waits until it pays; a journal entry is one write to a file, or, on an object
store, one small object. Whoever finds the journal of a process that died commits what is in it,
under the ids that the process would have used, so that nothing is lost and nothing lands twice.

    OUTPUT/_journal/RUN/NONCE-0003.journal      entries since the last commit; each file begins
                                                with what of the driver's reports is known
    OUTPUT/_journal/RUN/NONCE-0003.journal/000001, 000002 ...       the same on a store
    entry = length (8 bytes), crc32 (4 bytes), Arrow IPC streams one behind another

A file may end in half an entry, where its writer was killed: that one was never acknowledged.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.errors import RunAborted
from pipeline.ledger.folder import Log, folder_at
from pipeline.storage.uris import join

FOLDER = "_journal"
_HEAD = struct.Struct("<QI")
_META = b"frameledger"
_ENDING = ".journal"
_READERS = 8
"""Files read at once: on a store each waits for its answer."""


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
        self._folder = folder_at(root)
        self._run_id = run_id
        self._nonce = nonce
        self._number = 0
        self._old = [name for names in _files(root, run_id).values() for name in names]
        """Of earlier processes of this run."""
        self._log: Log | None = None

    @property
    def batch(self) -> str:
        """Names the entries of the file that is open now."""
        return batch_of(self._run_id, self._name)

    @property
    def is_open(self) -> bool:
        return self._log is not None

    @property
    def _name(self) -> str:
        return f"{self._nonce}-{self._number:04d}{_ENDING}"

    def write(self, notes: Iterable[Note]) -> None:
        """Add one entry, all of it or nothing."""
        assert self._log is not None
        try:
            self._log.append(_entry(notes))
        except OSError as error:
            raise self._full(error) from error

    def turn(self, mark: dict[str, Any]) -> None:
        """All that was written has been committed: begin a new file, drop the ones before.

        `mark` is found at the beginning of the new one.
        """
        before, old = self._old, self._log
        if old is not None:
            old.close()
            before = [*before, *old.names()]
        self._number += 1
        first = _entry([Note("mark", pa.table({}), facts=mark)])
        try:
            self._log = self._folder.grow(f"{FOLDER}/{self._run_id}/{self._name}", first)
            self._folder.remove(before)
        except OSError as error:
            raise self._full(error) from error
        self._old = []

    def _full(self, error: OSError) -> RunAborted:
        name = f"{FOLDER}/{self._run_id}/{self._name}"
        what = f"output {self._folder.root}: cannot write {name}"
        return RunAborted(f"{what}: {error.strerror or error}")

    def remove(self) -> None:
        """Nothing is left that no table has."""
        if self._log is not None:
            self._log.close()
            self._log = None
        with suppress(OSError):  # What stays, the next run finds to have landed.
            self._folder.remove_folder(f"{FOLDER}/{self._run_id}")


def journals(root: str) -> list[str]:
    """Writers of which a journal is left: runs (`run_of`), or parts of them."""
    return folder_at(root).folders(FOLDER)


def read_journal(root: str, run_id: str) -> Iterator[tuple[str, list[Note]]]:
    """(batch, entry) of all that a run has left, oldest first as far as that is known."""
    folder = folder_at(root)

    def read(name: str) -> bytes:
        try:
            return folder.read(name)
        except FileNotFoundError:
            return b""  # Somebody else has dealt with it meanwhile.
        except OSError as error:
            raise _unreadable(root, name, error) from error

    with ThreadPoolExecutor(_READERS) as pool:
        for batch, names in _files(root, run_id).items():
            for entry in _entries(b"".join(pool.map(read, names))):
                yield batch_of(run_id, batch), entry


def writer_of(run_id: str, part: int) -> str:
    """What the journal of one of a run's writers is kept under, beside those of the others."""
    return f"{run_id}.{part}" if part else run_id


def run_of(writer: str) -> str:
    """The run whose writer has left a journal under that name."""
    return writer.partition(".")[0]


def batch_of(run_id: str, name: str) -> str:
    """What the rows of one file that speak of no shard are committed as."""
    return f"{run_id}-{name.removesuffix(_ENDING)}"


def _files(root: str, run_id: str) -> dict[str, list[str]]:
    """What each of a run's journal files consists of, the oldest first."""
    below = f"{FOLDER}/{run_id}/"
    found: dict[str, list[str]] = {}
    written: dict[str, float] = {}
    try:
        entries = folder_at(root).listed(below.rstrip("/"))
    except OSError as error:
        raise _unreadable(root, below.rstrip("/"), error) from error
    for entry in entries:
        name, ending, _ = entry.name.removeprefix(below).partition(_ENDING)
        if ending:
            found.setdefault(name, []).append(entry.name)
            written[name] = max(entry.modified_s, written.get(name, 0.0))
    return {name: found[name] for name in sorted(found, key=lambda name: (written[name], name))}


def _unreadable(root: str, name: str, error: OSError) -> RunAborted:
    return RunAborted(
        f"{join(root, name)}: cannot read the journal of a run: {error.strerror or error}; make it "
        "readable, or remove it, and what is in it is done again"
    )


def _entry(notes: Iterable[Note]) -> bytes:
    payload = _packed(notes)
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


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
