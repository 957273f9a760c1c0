"""The `shards` table lags by a crash at most; here is what it lacks, and how it catches up.

Every commit to a data table carries the shards rows of what it holds, and every commit to
`shards` says up to which version of each data table nothing is lacking (`covers`). What has been
said once holds from then on, whoever has said it:

    frames   v0 v1 v2 v3 v4 v5        shards    ... {covers: frames 3}
                         ^^^^^ only these commits' metadata are read: v4 and v5
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from pipeline.ledger.delta import append_once, commit_notes
from pipeline.ledger.scan import read_table
from pipeline.ledger.schema import DATA_TABLES, SHARDS, plain
from pipeline.ledger.store import Store, empty

_ROW = tuple(SHARDS.schema.names)


@dataclass(frozen=True)
class Lag:
    """What `shards` lacks of what has landed."""

    rows: pa.Table
    """In the schema of `shards`; without rows as a rule."""
    covers: dict[str, int]
    """Per data table the version up to which `shards` plus `rows` lacks nothing."""
    since: int = -1
    """The version of `shards` that was looked at."""


def note_shards(rows: pa.Table) -> dict[str, object]:
    """Shards rows as the metadata of a data table's commit."""
    return {"shards": [list(row.values()) for row in rows.to_pylist()]}


def shards_noted(note: dict[str, object]) -> list[dict[str, str]]:
    """The shards rows in the metadata of a data table's commit, by column."""
    rows: list[list[str]] = note.get("shards", [])  # type: ignore[assignment]
    return [dict(zip(_ROW, row, strict=True)) for row in rows]


def note_covers(covers: dict[str, int]) -> dict[str, object]:
    """The metadata of a commit to `shards`."""
    return {"covers": covers}


def covered(store: Store, version: int) -> dict[str, int]:
    """What `shards` covers in a version, by the newest commit that says so; nothing where none
    does."""
    for _, note in commit_notes(store, "shards", range(version, -1, -1)):
        if "covers" in note:
            return dict(note["covers"])  # type: ignore[call-overload]
    return {}


def noted_shards(store: Store, table: str, versions: Iterable[int]) -> dict[str, pa.Table]:
    """The shards rows that commits to a data table carry, one-row tables by id."""
    return by_id(_table(list(_noted(store, table, versions).values())))


def _noted(store: Store, table: str, versions: Iterable[int]) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    for _, note in commit_notes(store, table, versions):
        found |= {row[0]: row for row in note.get("shards", [])}  # type: ignore[attr-defined]
    return found


def find_lag(store: Store, snapshots: dict[str, DeltaTable]) -> Lag:
    """Hold the newest commits of the data tables against `shards`; reads, writes nothing.

    `snapshots` has `shards` and the data tables. An entry of the log that is not kept any more
    (after 30 days) needs no reading: catching up comes before anything that could retire it.
    """
    since = covered(store, snapshots["shards"].version())
    found: dict[str, list[object]] = {}
    covers: dict[str, int] = {}
    for table in DATA_TABLES:
        newest = snapshots[table].version()
        found |= _noted(store, table, range(since.get(table, -1) + 1, newest + 1))
        covers[table] = max(newest, since.get(table, -1))
    if found:
        wanted = pc.field("shard_id").isin(list(found))
        dataset = store.dataset("shards", snapshots["shards"])
        known = read_table(dataset, ["shard_id"], wanted).column("shard_id")
        for shard in known.to_pylist():
            found.pop(shard, None)
    return Lag(_table(list(found.values())), covers, snapshots["shards"].version())


def _table(rows: list[list[object]]) -> pa.Table:
    if not rows:
        return empty("shards")
    columns = dict(zip(_ROW, zip(*rows, strict=True), strict=True))
    schema = plain("shards")
    return pa.table([pa.array(columns[f.name], f.type) for f in schema], schema=schema)


def read_lag(store: Store) -> Lag:
    """`find_lag` on fresh snapshots; nothing where the output has no tables yet."""
    names = ("shards", *DATA_TABLES)
    if not all(store.exists(name) for name in names):
        return Lag(empty("shards"), {})
    return find_lag(store, {name: store.open(name) for name in names})


def catch_up(output: str | Store) -> Lag:
    """Add to `shards` what a crash left out. Returns what that was, and what is covered now.

    Raises RunAborted where the store cannot be written.
    """
    store = output if isinstance(output, Store) else Store(output)
    lag = read_lag(store)
    if lag.rows.num_rows:
        note = note_covers(lag.covers)
        append_once(store, "shards", by_id(lag.rows), lambda _: note, lag.since)
    return lag


def covering(store: Store) -> Callable[[], object]:
    """What a commit to `shards` that adds none of them has to say, asked just before it is made:
    an older claim would bring back shards whose rows were taken away since."""
    return lambda: note_covers(catch_up(store).covers)


def by_id(rows: pa.Table) -> dict[str, pa.Table]:
    """Shards rows as one-row tables under the ids that guard them."""
    ids = rows.column("shard_id").to_pylist()
    return {shard: rows.slice(i, 1) for i, shard in enumerate(ids)}
