"""The commits of a flush, in an order that a crash can cut anywhere.

    indexes, failures ──> frames, detections, embeddings, tracks ──> shards ──> videos

Rows come before the `shards` that index them, and both before the `videos` row that says ok.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from pipeline.ledger.buffer import Buffer
from pipeline.ledger.catchup import Lag, covered, note_covers, note_shards, noted_shards
from pipeline.ledger.delta import Appended, Appender
from pipeline.ledger.said_by_others import SaidByOthers
from pipeline.ledger.schema import DATA_TABLES
from pipeline.ledger.store import Store


@dataclass
class WriterStats:
    """Figures of a writer, for progress and tests."""

    commits: int = 0
    commit_s: float = 0.0
    rows: dict[str, int] = field(default_factory=dict)
    """Rows per table that this writer has landed."""
    landed_before: int = 0
    """Shards (per analysis) that another writer had landed; their rows were dropped here."""


class Flush:
    """Takes what a writer's buffer holds into the tables, each row once whoever else writes.

    Args:
        lag: what was caught up with when the writer was opened.
        indexes: the version of `indexes` of which the writer knows the ids.
        others: per table of LOGS, what other runs say there.
    """

    def __init__(
        self,
        store: Store,
        buffer: Buffer,
        stats: WriterStats,
        lag: Lag,
        indexes: int,
        others: Mapping[str, SaidByOthers],
    ) -> None:
        self._store = store
        self._buffer = buffer
        self._stats = stats
        self._covers = dict(lag.covers)
        """Up to where `shards`, with the buffer's rows of it, lacks nothing."""
        self._made: dict[str, int] = {}
        """Data tables' versions since the last commit to `shards`."""
        self._others = others
        # Only batches that a process has left may have landed before.
        logs = {
            table: -1 if batches else others[table].since for table, batches in buffer.logs.items()
        }
        since = {**lag.covers, **logs, "shards": lag.since, "indexes": indexes}
        self._appenders = {
            table: Appender(store, table, since[table], others.get(table)) for table in since
        }
        self._logged: set[tuple[str, str]] = set()
        """(table, batch) of the journal's open file that this process has committed itself."""

    def steps(self, own: str) -> Iterator[tuple[str, Callable[[], None]]]:
        """The commits, one table each, in their order.

        Args:
            own: the batch of the journal's open file; empty where none is open.
        """
        yield "indexes", self._indexes
        # Before the rows that they explain: said twice after a crash rather than not at all.
        yield "failures", lambda: self._log("failures", own)
        for table in DATA_TABLES:
            yield table, lambda table=table: self._data(table)  # type: ignore[misc]
        yield "shards", self._shards
        yield "videos", lambda: self._log("videos", own)

    def _indexes(self) -> None:
        self._append("indexes", self._buffer.indexes, lambda _: {})
        self._buffer.indexes.clear()

    def _data(self, table: str) -> None:
        ready = self._buffer.ready[table]

        def note(ids: list[str]) -> object:
            return note_shards(pa.concat_tables(ready[name].shard for name in ids))

        done = self._append(table, {name: item.rows for name, item in ready.items()}, note)
        if done is None:
            return
        self._stats.landed_before += len(done.before)
        if done.version is not None:
            self._made[table] = done.version
        # Those of another writer too: it may have died before it got to `shards`.
        self._buffer.shards |= {name: item.shard for name, item in ready.items()}
        ready.clear()

    def _shards(self) -> None:
        if not self._buffer.shards:
            return
        self._appenders["shards"].look()
        self._heed_others()
        for table, version in self._made.items():
            # Other writers' shards that lie between go along: with writers that overlap nobody
            # could ever say that nothing lacks. Those that they have added themselves are known
            # by their ids, which came after what is covered and so after `since`.
            between = range(self._covers.get(table, -1) + 1, version + 1)
            others = noted_shards(self._store, table, between)
            self._buffer.shards = others | self._buffer.shards
            self._covers[table] = max(version, self._covers.get(table, -1))
        self._made.clear()
        self._append("shards", self._buffer.shards, lambda _: note_covers(self._heed_others()))
        self._buffer.shards.clear()

    def _heed_others(self) -> dict[str, int]:
        """What is covered, with what other writers have said: a claim never goes back."""
        said = covered(self._store, self._appenders["shards"].seen)
        for table, version in said.items():
            self._covers[table] = max(version, self._covers.get(table, -1))
        return self._covers

    def _log(self, table: str, own: str) -> None:
        rows = {batch: pa.concat_tables(parts) for batch, parts in self._buffer.logs[table].items()}
        note = self._others[table].note
        done = self._append(table, rows, lambda _: note())
        here = (table, own)
        if done is not None and own in done.before and here not in self._logged:
            # Somebody took this process for dead and committed what it had then. What came
            # since is not told from that: rather said twice than not at all.
            self._append(table, {f"{own}-again": rows[own]}, lambda _: note())
        self._logged = {here, *(one for one in self._logged if one[1] == own)}
        self._buffer.logs[table].clear()

    def _append(
        self, table: str, rows: dict[str, pa.Table], note: Callable[[list[str]], object]
    ) -> Appended | None:
        if not rows:
            return None
        done = self._appenders[table].append(rows, note)
        if done.version is not None:
            self._stats.commits += 1
        count = sum(rows[name].num_rows for name in done.landed) - done.left_out
        self._stats.rows[table] = self._stats.rows.get(table, 0) + count
        return done
