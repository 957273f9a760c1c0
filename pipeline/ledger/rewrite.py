"""Files of a table put in place of others, in one commit that nothing can have come before.

Delta's own compaction puts files one after another: every row group of the result spans all
videos. Here the rows are sorted as a commit's are, so that min and max of a row group still say
which videos it holds. What has to be read for one of 60,000 vectors of 512 floats in 60 commits:

    60 files as committed     104 MiB
    Delta's compaction        115 MiB
    Delta's z-order            30 MiB    (by video and frame)
    sorted                      4 MiB    one row group

The commit is a compare-and-swap on the version of the snapshot. Without it two rewrites of the
same files would both land, and their rows be there twice: deltalake holds appended files against
what others append, not what is removed against what others remove.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction

from pipeline.errors import RunAborted
from pipeline.ledger.delta import CALL_KEY, METADATA_KEY, made_by
from pipeline.ledger.parts import Part, add_action, parts_of, write_part
from pipeline.ledger.scan import read_table
from pipeline.ledger.schema import TABLES, plain
from pipeline.ledger.store import Store

SWAP_TRIES = 20
TRIES = 10


def read_parts(store: Store, table: str, snapshot: DeltaTable, parts: Iterable[Part]) -> pa.Table:
    """All rows of some of a snapshot's files, in the table's plain schema."""
    wanted = {part.path for part in parts}
    dataset = store.dataset(table, snapshot)
    fragments = [f for f in dataset.get_fragments() if f.path in wanted]
    chosen = ds.FileSystemDataset(fragments, dataset.schema, dataset.format, dataset.filesystem)
    return read_table(chosen).cast(plain(table))


class Swap:
    """A set of a table's files to be replaced by others, tried until it lands or is overtaken."""

    def __init__(self, store: Store, table: str, old: list[Part]) -> None:
        self._store = store
        self._table = table
        self._old = old
        self.new: list[Part] = []
        self._adds: list[AddAction] = []
        self._call = uuid.uuid4().hex

    def add(self, rows: pa.Table, partition: dict[str, str | None], *, data_change: bool) -> None:
        """Write rows to a new file of the swap."""
        spec = TABLES[self._table]
        if spec.sort_by:
            rows = rows.sort_by([(name, "ascending") for name in spec.sort_by])
        part, found = write_part(self._store, self._table, rows, partition)
        self.new.append(part)
        self._adds.append(add_action(part, found, data_change=data_change))

    def commit(self, *, data_change: bool, note: object = None) -> bool:
        """Put the new files in place of the old ones.

        Args:
            data_change: whether rows differ, or only where they lie.
            note: our own metadata of the commit, or what makes it when the commit is made.

        Returns False, and takes the new files away, where one of the old ones is gone: another
        writer has replaced it. Raises CommitFailedError where others commit all the time, and
        RunAborted where the store cannot be written.
        """
        for attempt in range(SWAP_TRIES):
            snapshot = self._store.open(self._table)
            there = {part.path for part in parts_of(snapshot)}
            if not there.issuperset(part.path for part in self._old):
                self.undo()
                return False
            # Said of this very version: an older claim would bring back what was taken away since.
            said = note() if callable(note) else note
            notes = {METADATA_KEY: json.dumps(said)} if said is not None else {}
            properties = CommitProperties(
                max_commit_retries=0, custom_metadata={**notes, CALL_KEY: self._call}
            )
            try:
                snapshot.create_write_transaction(
                    [*self._adds, *self._removes(data_change)],
                    "append",
                    snapshot.schema(),
                    list(TABLES[self._table].partition_by),
                    commit_properties=properties,
                )
            except CommitFailedError:
                if made_by(self._store, self._table, snapshot.version(), self._call):
                    return True  # Its answer was lost.
                if attempt == SWAP_TRIES - 1:
                    self.undo()
                    raise
                time.sleep(0.01 * attempt)
            except (DeltaError, OSError) as error:
                # Whether it landed is not clear: files stay, and are named or found by a gc.
                line = " ".join(str(error).split())[:300]
                what = f"output {self._store.root}: cannot write table {self._table}: {line}"
                raise RunAborted(what) from error
            else:
                return True
        raise AssertionError("unreachable")

    def undo(self) -> None:
        """Take away new files that no version names."""
        self._store.folder.remove(f"{self._table}/{part.path}" for part in self.new)
        self.new, self._adds = [], []

    def _removes(self, data_change: bool) -> Iterator[RemoveAction]:
        now_ms = int(time.time() * 1000)
        for part in self._old:
            yield RemoveAction(
                path=part.path,
                data_change=data_change,
                deletion_timestamp=now_ms,
                size=part.size_bytes,
                partition_values=dict(part.partition),
            )


def rewrite(
    store: Store,
    table: str,
    snapshot: DeltaTable,
    bins: Iterable[list[Part]],
    change: Callable[[pa.Table], pa.Table] | None = None,
    *,
    note: object = None,
) -> list[Part] | None:
    """Write each bin of files (of one partition) as one file in order, all in one commit.

    `change` turns a bin's rows into what stays of them; without it rows only move. Memory is that
    of the largest bin, twice. Returns the new files, None where another writer was faster.
    """
    bins = list(bins)
    swap = Swap(store, table, [part for parts in bins for part in parts])
    try:
        for parts in bins:
            rows = read_parts(store, table, snapshot, parts)
            if change is not None:
                rows = change(rows)
            if rows.num_rows:
                swap.add(rows, dict(parts[0].partition), data_change=change is not None)
    except Exception:
        swap.undo()
        raise
    landed = swap.commit(data_change=change is not None, note=note)
    return swap.new if landed else None


def change_rows(
    store: Store,
    table: str,
    wanted: pc.Expression | None,
    change: Callable[[pa.Table], pa.Table],
    note: object = None,
) -> None:
    """Rewrite the files that hold rows which match `wanted`, in one commit."""
    for _ in range(TRIES):
        snapshot = store.open(table)
        dataset = store.dataset(table, snapshot)
        held = {
            fragment.path
            for fragment in dataset.get_fragments(filter=wanted)
            if _matches(dataset, fragment, wanted)
        }
        bins = [[part] for part in parts_of(snapshot) if part.path in held]
        if not bins or rewrite(store, table, snapshot, bins, change, note=note) is not None:
            return
    raise RunAborted(f"output {store.root}: table {table} is rewritten by others all the time")


def _matches(dataset: ds.Dataset, fragment: ds.Fragment, wanted: pc.Expression | None) -> bool:
    if wanted is None:
        return True
    one = ds.FileSystemDataset([fragment], dataset.schema, dataset.format, dataset.filesystem)
    return bool(read_table(one, [dataset.schema.names[0]], wanted).num_rows)
