"""Files on disk held against the log: what a table names, and what lies beside it unnamed."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from pipeline.ledger.rewrite import Part, parts_of
from pipeline.ledger.store import Store


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
    there = {path for path in found[1] if os.path.exists(os.path.join(store.uri(table), path))}
    superseded = there.intersection(found[0])
    return Unnamed(tuple(sorted(superseded)), tuple(sorted(there - superseded)))


def temporary_files(store: Store, table: str, min_age_hours: int = 0) -> list[str]:
    """What a writer leaves that is killed while it writes a file, the table's log included.

    Such names are made by the object store library (`NAME#1`) and by Delta for a commit
    (`_commit_ID.json.tmp`); listings of the table do not show them.
    """
    root = store.uri(table)
    before = time.time() - min_age_hours * 3600
    found = []
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            if re.search(r"#\d+$|\.tmp$", name) and os.path.getmtime(path) <= before:
                found.append(os.path.relpath(path, root))
    return sorted(found)


def size_of(store: Store, table: str, path: str) -> int:
    """Bytes of a file below a table's folder, 0 where it is gone."""
    try:
        return os.path.getsize(os.path.join(store.uri(table), path))
    except FileNotFoundError:
        return 0


def damaged_files(store: Store, table: str, snapshot: DeltaTable) -> Iterator[tuple[str, str]]:
    """(path from the output, what is wrong) of every file of a snapshot that is not as its log
    says. Opens each file's footer; reads no rows."""
    for part in parts_of(snapshot):
        wrong = _fault(os.path.join(store.uri(table), part.path), part)
        if wrong:
            yield f"{table}/{part.path}", wrong


def _fault(path: str, part: Part) -> str:
    try:
        size = os.path.getsize(path)
    except FileNotFoundError:
        return "the file is missing"
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"
    if size != part.size_bytes:
        return f"the file has {size:,} bytes, {part.size_bytes:,} according to the log"
    try:
        rows = pq.read_metadata(path).num_rows
    except (pa.ArrowInvalid, OSError) as error:
        return f"the file cannot be opened: {' '.join(str(error).split())[:200]}"
    if rows != part.rows:
        return f"the file has {rows:,} rows, {part.rows:,} according to the log"
    return ""
