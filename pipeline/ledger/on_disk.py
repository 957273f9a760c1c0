"""Files on disk held against the log: what a table names, and what lies beside it unnamed."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from pipeline.ledger.parts import Part, parts_of
from pipeline.ledger.store import Store
from pipeline.storage.objects import StoreError

if TYPE_CHECKING:
    import pyarrow.fs as pa_fs


@dataclass(frozen=True)
class Unnamed:
    """Files in a table's folder that its newest version does not name, below the folder."""

    superseded: tuple[str, ...]
    """Some earlier version names them, so history can still be read."""
    orphaned: tuple[str, ...]
    """No version names them: a writer died before its commit, or is about to make one."""


def unnamed_files(
    store: Store, table: str, snapshot: DeltaTable, min_age_hours: int = 0
) -> Unnamed:
    """Files that could go, of at least some age: since they were superseded, or written.

    After a week without being named a file counts as orphaned, since Delta's log forgets it.
    """
    found = [
        snapshot.vacuum(
            retention_hours=min_age_hours,
            dry_run=True,
            enforce_retention_duration=False,
            full=full,
        )
        for full in (False, True)
    ]
    # The lists name files that an earlier removal has taken already.
    there = sizes_of(store, table).keys() & set(found[1])
    superseded = there.intersection(found[0])
    return Unnamed(tuple(sorted(superseded)), tuple(sorted(there - superseded)))


def temporary_files(store: Store, table: str, min_age_hours: int = 0) -> list[str]:
    """What a writer leaves that is killed while it writes a file, the table's log included.

    Such names are made by the object store library (`NAME#1`) and by Delta for a commit
    (`_commit_ID.json.tmp`); listings of the table do not show them.
    """
    before = time.time() - min_age_hours * 3600
    return [
        entry.name.removeprefix(f"{table}/")
        for entry in store.folder.listed(table)
        if re.search(r"#\d+$|\.tmp$", entry.name) and entry.modified_s <= before
    ]


def sizes_of(store: Store, table: str) -> dict[str, int]:
    """Bytes of every file in a table's folder, by its path below."""
    return {
        entry.name.removeprefix(f"{table}/"): entry.size_bytes
        for entry in store.folder.listed(table)
    }


def damaged_files(store: Store, table: str, snapshot: DeltaTable) -> Iterator[tuple[str, str]]:
    """(path from the output, what is wrong) of every file of a snapshot that is not as its log
    says. Opens each file's footer; reads no rows."""
    parts = parts_of(snapshot)
    sizes = sizes_of(store, table) if parts else {}
    filesystem = store.filesystem(table)
    for part in parts:
        wrong = _fault(filesystem, sizes.get(part.path), part)
        if wrong:
            yield f"{table}/{part.path}", wrong


def _fault(filesystem: pa_fs.FileSystem, size: int | None, part: Part) -> str:
    if size is None:
        return "the file is missing"
    if size != part.size_bytes:
        return f"the file has {size:,} bytes, {part.size_bytes:,} according to the log"
    try:
        with filesystem.open_input_file(part.path) as file:
            rows = pq.read_metadata(file).num_rows
    except StoreError:
        raise
    except (pa.ArrowInvalid, OSError) as error:
        return f"the file cannot be opened: {' '.join(str(error).split())[:200]}"
    if rows != part.rows:
        return f"the file has {rows:,} rows, {part.rows:,} according to the log"
    return ""
