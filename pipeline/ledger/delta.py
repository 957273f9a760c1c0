"""A thin layer on deltalake: tables made once, rows appended once, analyses recorded once.

Exactly once works like this: every append carries ids as Delta transaction ids in the same
atomic commit as the rows. A writer takes a fresh snapshot, leaves out what has landed, and
appends the rest; if another writer commits one of its ids in between, Delta refuses the commit
and the writer starts over. Whatever fails in an unclear way is answered by the same look.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

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

from pipeline.errors import RunAborted, UsageError
from pipeline.ledger.schema import DATA_TABLES, SCHEMA_VERSION, TABLES, TableSpec, plain
from pipeline.ledger.store import Store
from pipeline.records import Analysis

METADATA_KEY = "frameledger"
"""The key of our own JSON in a commit's metadata."""
_VERSION_KEY = "frameledger.schemaVersion"
ANALYSIS_KEY = "frameledger.analysis."
"""What the property of a table begins with that keeps an analysis."""

SMALL_COLUMNS = ("run_id", "video_id", "frame_index", "pts_s")
"""Of tables without dictionaries: columns that repeat all the same, and have statistics."""

CONFLICT_TRIES = 50
"""Lost races, each of which another writer has won: somebody always gets on."""
STORE_TRIES = 5
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 2.0

ID_RETENTION = "interval 7 days"
"""How long ids guard. They have to outlive only runs that overlap: what is older is known from
`shards`, which every writer reads first. Without an end every id ever used would be in memory
whenever a table is opened (400 MB for a million)."""


@dataclass(frozen=True)
class Appended:
    """What became of the ids of an append."""

    landed: frozenset[str]
    """Their rows are in the table through this call."""
    before: frozenset[str]
    """They had landed already; their rows were dropped."""
    version: int | None
    """The table's version made by this call, None where everything had landed before."""


@dataclass(frozen=True)
class RecordedAnalysis:
    """An analysis as the output remembers it."""

    fingerprint: str
    name: str
    table: str
    identity: dict[str, object] = field(hash=False)
    created_at: str
    """ISO 8601, UTC: when a run first wanted it."""
    wanted_at: str
    """The same: since when it is what runs want. What is read is that of the last run."""
    run_id: str
    leaving: bool = False
    """Its rows are being removed (`superseded`): they are not to be counted on."""


def create_tables(store: Store) -> None:
    """Make the tables that are missing. Two processes may do so at once.

    Raises UsageError where the folder cannot be written or holds tables of another version.
    """
    store.prepare()
    for spec in TABLES.values():
        if not store.exists(spec.name):
            _create(store, spec)
    found = store.open("videos").metadata().configuration.get(_VERSION_KEY)
    if found != str(SCHEMA_VERSION):
        raise UsageError(
            f"output {store.root}: its tables have version {found}, this frameledger writes "
            f"version {SCHEMA_VERSION}; name another output"
        )


def _create(store: Store, spec: TableSpec) -> None:
    try:
        DeltaTable.create(
            store.uri(spec.name),
            schema=spec.schema,
            partition_by=list(spec.partition_by),
            mode="error",
            name=spec.name,
            description=spec.description,
            configuration={
                _VERSION_KEY: str(SCHEMA_VERSION),
                "delta.setTransactionRetentionDuration": ID_RETENTION,
                "delta.dataSkippingStatsColumns": ",".join(spec.skipping_columns),
                # Catching up reads entries of the log: only gc, which catches up before, may
                # expire them.
                "delta.enableExpiredLogCleanup": "false",
            },
            storage_options=store.storage_options,
            # A retry would write the table's metadata a second time over what has been
            # recorded in it since; losing the race is what is wanted.
            commit_properties=CommitProperties(max_commit_retries=0),
            raise_if_key_not_exists=False,
        )
    except (DeltaError, OSError) as error:
        if not store.exists(spec.name):
            raise UsageError(
                f"output {store.root}: cannot make the table {spec.name}: {_line(error)}"
            ) from None


def append_once(
    store: Store,
    table: str,
    rows: dict[str, pa.Table],
    metadata: Callable[[list[str]], object],
) -> Appended:
    """Append the rows of each id that has not landed yet, in one commit.

    Args:
        store: the output.
        table: name of the table.
        rows: per id its rows; a table without rows still makes the id land.
        metadata: given the ids of the commit, what to keep as JSON in the commit's metadata.

    Raises RunAborted where the store cannot be written (after some tries) or refuses the rows.
    """
    spec = TABLES[table]
    tries = _Patience(f"output {store.root}: cannot write table {table}")
    ours: set[str] = set()
    while True:
        try:
            snapshot = store.open(table)
            landed = {i for i in rows if snapshot.transaction_version(i) is not None}
            due = [i for i in rows if i not in landed]
            if not due:
                # What an earlier try of this call landed though it raised is ours.
                return Appended(frozenset(landed & ours), frozenset(landed - ours), None)
            ours = set(due)
            _write(snapshot, spec, rows, due, metadata(due))
            return Appended(frozenset(due), frozenset(landed), snapshot.version())
        except SchemaMismatchError as error:
            raise RunAborted(f"{tries.what}: {_line(error)}") from error
        except CommitFailedError as error:
            ours = set()  # refused: another writer's ids are not ours
            tries.conflict(error)
        except (DeltaError, OSError) as error:
            tries.failure(error)


def _write(
    snapshot: DeltaTable, spec: TableSpec, rows: dict[str, pa.Table], due: list[str], note: object
) -> None:
    data = _sorted(spec, [rows[i] for i in due])
    now_ms = int(time.time() * 1000)
    write_deltalake(
        snapshot,
        data,
        mode="append",
        writer_properties=writer_properties(spec),
        commit_properties=CommitProperties(
            custom_metadata={METADATA_KEY: json.dumps(note, separators=(",", ":"))},
            app_transactions=[Transaction(i, 1, now_ms) for i in due],
        ),
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
        for line in (store.log_entry(table, version) or b"").splitlines():
            if not line.startswith(b'{"commitInfo"'):
                continue
            text = json.loads(line)["commitInfo"].get(METADATA_KEY)
            if text is not None:
                yield version, json.loads(text)


def record_analyses(store: Store, analyses: Iterable[Analysis], run_id: str) -> None:
    """Keep what each analysis is, as a property of its table, and that it is the one wanted now.

    Writes nothing where that is known. Raises RunAborted where the store cannot be written, or
    where rows of an analysis are being removed.
    """
    for analysis in analyses:
        key = ANALYSIS_KEY + analysis.fingerprint
        value = {
            "name": analysis.name,
            "table": analysis.table,
            "identity": analysis.identity,
            "created_at": _now_iso(),
            "wanted_at": _now_iso(),
            "run_id": run_id,
        }
        tries = _Patience(f"output {store.root}: cannot record analysis {analysis.name}")
        while True:
            try:
                snapshot = store.open(analysis.table)
                known = {a.fingerprint: a for a in analyses_in([snapshot])}
                if analysis.fingerprint in known:
                    if known[analysis.fingerprint].leaving:
                        raise RunAborted(
                            f"output {store.root}: the rows of {analysis.name} "
                            f"{analysis.fingerprint} are being removed; end that with "
                            f"`frameledger gc {store.root} --superseded`, then run this again"
                        )
                    if newest_analyses(known.values())[analysis.name].fingerprint in key:
                        break
                    value["created_at"] = known[analysis.fingerprint].created_at
                # A commit of another writer in between is refused, not overwritten.
                snapshot.alter.set_table_properties(
                    {key: json.dumps(value, sort_keys=True)}, raise_if_not_exists=False
                )
                break
            except CommitFailedError as error:
                tries.conflict(error)
            except (DeltaError, OSError) as error:
                tries.failure(error)


def read_analyses(store: Store) -> list[RecordedAnalysis]:
    """Every analysis that the output knows, the oldest first."""
    return analyses_in(store.open(table) for table in DATA_TABLES if store.exists(table))


def analyses_in(snapshots: Iterable[DeltaTable]) -> list[RecordedAnalysis]:
    """The analyses that data tables keep, the oldest first."""
    found = []
    for snapshot in snapshots:
        for key, text in snapshot.metadata().configuration.items():
            # A property cannot be taken away: that of an analysis whose rows are gone is empty.
            if key.startswith(ANALYSIS_KEY) and text:
                value = json.loads(text)
                found.append(RecordedAnalysis(key.removeprefix(ANALYSIS_KEY), **value))
    return sorted(found, key=lambda a: (a.created_at, a.fingerprint))


def newest_analyses(analyses: Iterable[RecordedAnalysis]) -> dict[str, RecordedAnalysis]:
    """The analysis of each analyzer name that the last run wanted."""
    there = (a for a in analyses if not a.leaving)
    return {a.name: a for a in sorted(there, key=lambda a: (a.wanted_at, a.fingerprint))}


class _Patience:
    """Bounded tries with growing, jittered waits; conflicts and failures are counted apart."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._conflicts = 0
        self._failures = 0

    def conflict(self, error: Exception) -> None:
        self._conflicts += 1
        self._wait(self._conflicts, CONFLICT_TRIES, error)

    def failure(self, error: Exception) -> None:
        self._failures += 1
        self._wait(self._failures, STORE_TRIES, error)

    def _wait(self, count: int, most: int, error: Exception) -> None:
        if count >= most:
            raise RunAborted(f"{self.what}: {_line(error)} ({count} tries)") from error
        longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**count)
        time.sleep(random.uniform(0, longest))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _now_iso() -> str:
    import datetime

    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds")
