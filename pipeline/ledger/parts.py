"""A Parquet file of a table: as the log has it, and written by us.

On a disk delta-rs writes what is committed. On a store it is written here: when a store fails in
the middle of a file, the threads of the Delta library say much and nothing that helps.
"""

from __future__ import annotations

import datetime
import json
import math
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.transaction import AddAction

from pipeline.errors import RunAborted
from pipeline.ledger.schema import TABLES, TableSpec
from pipeline.ledger.store import Store

SMALL_COLUMNS = ("run_id", "video_id", "frame_index", "pts_s")
"""Of tables without dictionaries: columns that repeat all the same, and have statistics."""


@dataclass(frozen=True)
class Part:
    """A Parquet file of a table, as the log has it."""

    path: str
    """Below the table's folder."""
    size_bytes: int
    rows: int
    partition: tuple[tuple[str, str | None], ...] = ()


def parts_of(snapshot: DeltaTable) -> list[Part]:
    """The files of a snapshot, by path."""
    actions = pa.table(snapshot.get_add_actions()).to_pylist()
    found = [
        Part(
            path=action["path"],
            size_bytes=action["size_bytes"],
            rows=action["num_records"] or 0,
            partition=tuple(sorted((action.get("partition") or {}).items())),
        )
        for action in actions
    ]
    return sorted(found, key=lambda part: part.path)


def write_part(
    store: Store, table: str, rows: pa.Table, partition: dict[str, str | None]
) -> tuple[Part, str]:
    """Write rows, which are in order, as a file that no version names yet.

    Returns it with its statistics as the log has them. Raises RunAborted, and leaves nothing,
    where it cannot be written.
    """
    spec = TABLES[table]
    there = rows.drop_columns(list(partition)).combine_chunks()
    folder = "".join(f"{name}={value}/" for name, value in sorted(partition.items()))
    path = f"{folder}part-00000-{uuid.uuid4()}-c000.zstd.parquet"
    name = f"{table}/{path}"
    try:
        with store.folder.create(name) as file:
            pq.write_table(there, file, row_group_size=spec.row_group_rows, **_options(spec))
            size = file.tell()
    except OSError as error:
        what = f"output {store.root}: cannot write {name}"
        raise RunAborted(f"{what}: {error.strerror or error}") from error
    part = Part(path, size, rows.num_rows, tuple(sorted(partition.items())))
    return part, statistics(rows, spec.skipping_columns)


def add_action(part: Part, statistics: str, *, data_change: bool = True) -> AddAction:
    """What a commit says of a new file."""
    now_ms = int(time.time() * 1000)
    partition = dict(part.partition)
    return AddAction(part.path, part.size_bytes, partition, now_ms, data_change, statistics)


def by_partition(
    spec: TableSpec, rows: pa.Table
) -> Iterator[tuple[dict[str, str | None], pa.Table]]:
    """(partition, its rows) of rows that are in order; nothing where there are none."""
    if not rows.num_rows:
        return
    if not spec.partition_by:
        yield {}, rows
        return
    (name,) = spec.partition_by
    for value in rows.column(name).unique().to_pylist():
        yield {name: value}, rows.filter(pc.equal(rows.column(name), value))


def _options(spec: TableSpec) -> dict[str, object]:
    """As `delta.writer_properties`, for Arrow's writer."""
    floats = not spec.dictionary
    return {
        "compression": "zstd",
        "compression_level": 3,
        "use_dictionary": list(SMALL_COLUMNS) if floats else True,
        "write_statistics": list(SMALL_COLUMNS) if floats else True,
        "write_page_index": True,
    }


def statistics(rows: pa.Table, columns: Iterable[str]) -> str:
    """The JSON of a file's statistics in the log: its rows, and per column min, max and nulls."""
    low: dict[str, object] = {}
    high: dict[str, object] = {}
    nulls: dict[str, int] = {}
    for name in columns:
        if name not in rows.schema.names:
            continue
        column = rows.column(name)
        nulls[name] = column.null_count
        bounds = pc.min_max(column).as_py()
        if not any(_unordered(value) for value in bounds.values()):
            low[name], high[name] = _plain(bounds["min"]), _plain(bounds["max"])
    found = {"numRecords": len(rows), "minValues": low, "maxValues": high, "nullCount": nulls}
    return json.dumps(found)


def _unordered(value: object) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _plain(value: object) -> object:
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return value
