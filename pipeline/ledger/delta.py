"""A thin layer on deltalake: tables made once, rows appended once.

Exactly once works like this: every append names its ids in the metadata of the same atomic commit
as the rows. A writer reads the ids of the commits that it has not seen, leaves out what has
landed, and appends the rest. All appends carry one and the same Delta transaction id, so if
another writer appends in between, Delta refuses the commit and the writer looks again. Whatever
fails in an unclear way is answered by the same look.

    v7 [a b]   v8 [c]   v9 compaction   v10 [d]        what the log says
         known up to here ^                 ^ read before appending; d is left out

Why not a transaction id per shard: Delta keeps those in every checkpoint, and a look for one goes
through all of them. With a million in a table, opening it takes 0.3 s, one look 0.05 s (so a commit
of 200 shards 10 s) and a checkpoint 2.4 s and 360 MiB; with three million 0.6 s, 0.15 s and 6 s.
Here all of it depends on the commits since the last look alone.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, SchemaMismatchError

from pipeline.errors import RunAborted
from pipeline.ledger.keys import KeySet
from pipeline.ledger.parts import SMALL_COLUMNS, add_action, by_partition, write_part
from pipeline.ledger.patience import Patience, one_line
from pipeline.ledger.said_by_others import SaidByOthers
from pipeline.ledger.schema import DATA_TABLES, TABLES, TableSpec, plain
from pipeline.ledger.store import Store

METADATA_KEY = "frameledger"
"""The key of our own JSON in a commit's metadata."""

_GUARD = "frameledger"
"""The transaction id of every append: two at the same time exclude each other."""
_IDS_KEY = "frameledger.ids"
"""The key of a commit's ids in its metadata. They guard for as long as the log is kept (30 days)
and have to outlive only runs that overlap: what is older is known from `shards`."""
CALL_KEY = "frameledger.call"
"""The key of what tells a commit's maker: where the answer to a commit is lost, the next look
finds it, and knows it for its own."""


@dataclass(frozen=True)
class Appended:
    """What became of the ids of an append."""

    landed: frozenset[str]
    """Their rows are in the table through this call."""
    before: frozenset[str]
    """They had landed already; their rows were dropped."""
    version: int | None
    """The table's version made by this call, None where everything had landed before."""
    left_out: int = 0
    """Rows of `landed` that are not in the table, since other runs have said the same."""


class Appender:
    """Appends to one table for one process, each id once whoever else appends.

    Args:
        store: the output.
        table: name of the table.
        since: the caller knows what has landed up to this version, and asks for none of that. None
            where nothing that has landed so far will be asked for.
        others: whose rows are not to be said again. Hears of what comes after `since`.
    """

    def __init__(
        self, store: Store, table: str, since: int | None, others: SaidByOthers | None = None
    ) -> None:
        self._store = store
        self._spec = TABLES[table]
        self._landed = KeySet()
        """Ids of the commits after `since`, our own among them."""
        self._call = ""
        self._own: tuple[set[str], int | None] = set(), None
        """Ids that the call under way has landed, and the version."""
        self._snapshot: DeltaTable | None = None
        self._others = others
        self._left_out = 0
        self._since = store.open(table).version() if since is None else since

    @property
    def seen(self) -> int:
        """The version up to which it is known what has landed; in `metadata` the one that the
        rows are appended to."""
        return self._since

    def look(self) -> None:
        """See what has landed by now. Raises RunAborted where that cannot be read."""
        tries = self._patience()
        while True:
            try:
                self._look()
                return
            except (DeltaError, OSError) as error:
                self._snapshot = None
                tries.failure(error)

    def append(
        self, rows: dict[str, pa.Table], metadata: Callable[[list[str]], object]
    ) -> Appended:
        """Append the rows of each id that has not landed yet, in one commit.

        Args:
            rows: per id its rows; a table without rows still makes the id land.
            metadata: given the ids of the commit, what to keep as JSON in the commit's metadata.

        Raises RunAborted where the store cannot be written (after some tries) or refuses the rows.
        """
        tries = self._patience()
        self._call, self._own, self._left_out = uuid.uuid4().hex, (set(), None), 0
        while True:
            try:
                snapshot = self._look()
                landed = {i for i in rows if i in self._landed}
                due = [i for i in rows if i not in landed]
                if not due:
                    # What an earlier try of this call landed though it raised is ours.
                    ours, version = self._own
                    before = frozenset(landed - ours)
                    return Appended(frozenset(landed & ours), before, version, self._left_out)
                data = _sorted(self._spec, [rows[i] for i in due])
                if self._others is not None:
                    whole, data = data.num_rows, self._others.left_out(data)
                    self._left_out = whole - data.num_rows
                self._store.check_room(data.nbytes)
                note = metadata(due)
                write(self._store, snapshot, self._spec, data, due, note, self._call)
                version = snapshot.version()
                return Appended(frozenset(due), frozenset(landed), version, self._left_out)
            except SchemaMismatchError as error:
                raise RunAborted(f"{tries.what}: {one_line(error)}") from error
            except CommitFailedError as error:
                tries.conflict(error)
            except (DeltaError, OSError) as error:
                self._snapshot = None
                tries.failure(error)

    def _patience(self) -> Patience:
        return Patience(f"output {self._store.root}: cannot write table {self._spec.name}")

    def _look(self) -> DeltaTable:
        """The table as it is now, once the ids of its newest commits are known."""
        if self._snapshot is None:
            self._snapshot = self._store.open(self._spec.name)
        else:
            self._snapshot.update_incremental()
        newest = self._snapshot.version()
        for version in range(self._since + 1, newest + 1):
            entry = self._store.log_entry(self._spec.name, version)
            said = _said(entry)
            ids = json.loads(said.get(_IDS_KEY, "[]"))
            for landed in ids:
                self._landed.add(landed)
            if said.get(CALL_KEY) == self._call:
                self._own = set(ids), version
            if self._others is not None:
                note = json.loads(said.get(METADATA_KEY, "{}"))
                self._others.hear(version, note, _added(entry))
        self._since = max(self._since, newest)
        return self._snapshot


def append_once(
    store: Store,
    table: str,
    rows: dict[str, pa.Table],
    metadata: Callable[[list[str]], object],
    since: int = -1,
) -> Appended:
    """One append of a caller that makes no more: see `Appender`."""
    return Appender(store, table, since).append(rows, metadata)


def write(
    store: Store,
    snapshot: DeltaTable,
    spec: TableSpec,
    data: pa.Table,
    ids: list[str],
    note: object,
    call: str = "",
) -> None:
    """Append in one commit, refused if another writer has appended since the snapshot.

    `call` tells whose commit it was, where that is not known any more.
    """
    texts = {METADATA_KEY: note, _IDS_KEY: ids}
    said = {key: json.dumps(value, separators=(",", ":")) for key, value in texts.items()}
    properties = CommitProperties(
        custom_metadata={**said, CALL_KEY: call},
        app_transactions=[Transaction(_GUARD, snapshot.version() + 1)],
    )
    if store.is_remote:
        parts = [write_part(store, spec.name, rows, at) for at, rows in by_partition(spec, data)]
        snapshot.create_write_transaction(
            [add_action(part, statistics) for part, statistics in parts],
            "append",
            snapshot.schema(),
            list(spec.partition_by),
            commit_properties=properties,
        )
        return
    write_deltalake(
        snapshot,
        data,
        mode="append",
        writer_properties=writer_properties(spec),
        commit_properties=properties,
    )


def _sorted(spec: TableSpec, parts: list[pa.Table]) -> pa.Table:
    """All parts in one table in the order of `spec.sort_by`.

    A shard's rows are in order by themselves and shards do not overlap, so data tables are put in
    order by whole shards: a sort of the rows would take their memory twice over.
    """
    if spec.name in DATA_TABLES:
        parts = sorted(
            (part for part in parts if part.num_rows),
            key=lambda part: tuple(part.column(name)[0].as_py() for name in spec.sort_by),
        )
    data = pa.concat_tables([plain(spec.name).empty_table(), *parts])
    if spec.sort_by and spec.name not in DATA_TABLES:
        data = data.sort_by([(name, "ascending") for name in spec.sort_by])
    # In one piece: delta-rs keeps neither the order of batches nor full row groups.
    return data.combine_chunks()


def writer_properties(spec: TableSpec) -> WriterProperties:
    """Zstandard, row groups of the table's size, dictionaries where they pay."""
    default, by_column = None, None
    if not spec.dictionary:
        # delta-rs cannot name a list's inner column, so the bulk is set as the default and the
        # columns that do repeat are named.
        default = ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE")
        by_column = {
            name: ColumnProperties(dictionary_enabled=True, statistics_enabled="PAGE")
            for name in SMALL_COLUMNS
        }
    return WriterProperties(
        compression="ZSTD",
        compression_level=3,
        max_row_group_size=spec.row_group_rows,
        default_column_properties=default,
        column_properties=by_column,
    )


def commit_notes(
    store: Store, table: str, versions: Iterable[int]
) -> Iterator[tuple[int, dict[str, object]]]:
    """(version, our own metadata) of commits that have some; those without are left out.

    Versions whose log is not kept any more (a checkpoint stands for them) are left out too.
    """
    for version in versions:
        text = _said(store.log_entry(table, version)).get(METADATA_KEY)
        if text is not None:
            yield version, json.loads(text)


def made_by(store: Store, table: str, since: int, call: str) -> bool:
    """Whether any commit after version `since` was made by a `call`."""
    newest = store.open(table).version()
    versions = range(since + 1, newest + 1)
    return any(_said(store.log_entry(table, v)).get(CALL_KEY) == call for v in versions)


def _said(entry: bytes | None) -> dict[str, str]:
    """What a commit's metadata has, by its entry of the log; nothing where that is not kept any
    more."""
    for line in (entry or b"").splitlines():
        if line.startswith(b'{"commitInfo"'):
            return dict(json.loads(line)["commitInfo"])
    return {}


def _added(entry: bytes | None) -> Iterator[str]:
    """The files with rows that the table did not have before: compaction adds none."""
    for line in (entry or b"").splitlines():
        if line.startswith(b'{"add"'):
            file = json.loads(line)["add"]
            if file["dataChange"]:
                yield file["path"]
