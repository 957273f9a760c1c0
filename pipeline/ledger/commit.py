"""The writer of a run: results in, whole shards out, in commits that land exactly once.

    begin(task) ── add_result ... add_end ──> whole? remap ──> ready ── flush ──> tables
                   discard(attempt) drops          (rows in memory)

Nothing of a shard is visible before all of it is here. What is whole goes into the journal at
once (see `journal`), so that a process which dies loses none of it; `flush` takes it to the tables.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType

import pyarrow as pa

from pipeline.errors import RunAborted
from pipeline.ledger.analyses import record_analyses
from pipeline.ledger.assemble import Assembly, Parts
from pipeline.ledger.books import read_landed
from pipeline.ledger.buffer import Buffer
from pipeline.ledger.catchup import catch_up
from pipeline.ledger.creation import create_tables
from pipeline.ledger.flush import Flush, WriterStats
from pipeline.ledger.indexes import index_row
from pipeline.ledger.journal import Journal, Note, read_journal, writer_of
from pipeline.ledger.keys import KeySet
from pipeline.ledger.numbers import Numbers
from pipeline.ledger.outcomes import Clock, failure_row, lost_frames, shard_row, video_row
from pipeline.ledger.remap import remap
from pipeline.ledger.said_by_others import LOGS, SaidByOthers
from pipeline.ledger.scan import read_batches
from pipeline.ledger.store import Store
from pipeline.records import (
    Analysis,
    ClipResult,
    Failure,
    ShardEnd,
    ShardTask,
    VideoIndex,
    VideoOutcome,
    shard_id,
)


@dataclass(frozen=True)
class WholeShard:
    """Said once per shard: all of it is here, and will be in the next commit."""

    task_key: str
    frames: int
    """Sampled frames that it owns."""
    rows: dict[str, int]
    """Rows per table."""


class LedgerWriter:
    """Buffers results of one run and commits them; used by one thread of one process.

    Opening it makes the tables that are missing, adds to `shards` what a crash left out, and
    records the analyses. Raises UsageError where `output` cannot hold tables, RunAborted where
    it cannot be written any more.
    """

    def __init__(
        self,
        output: str,
        run_id: str,
        analyses: Mapping[str, Analysis] | None,
        commit_bytes: int = 64 * 2**20,
        commit_seconds: float = 30.0,
        part: int = 0,
        books: Mapping[str, int] | None = None,
    ) -> None:
        """
        Args:
            analyses: what will be written, by fingerprint; None: only what an earlier process of
                this run has left in its journal.
            part: which of the run's writers this is. Each has its own videos.
            books: versions of the tables of LOGS when the run's books were read: what other runs
                have said since is not said again. Without it, those that are found here.
        """
        self.stats = WriterStats()
        self._store = Store(output)
        self._run_id = run_id
        self._analyses = dict(analyses or {})
        by_table = {analysis.table: name for name, analysis in self._analyses.items()}
        self._frames_analysis = by_table.get("frames", "")
        self._commit_bytes = commit_bytes
        self._commit_seconds = commit_seconds
        self._reports = Numbers()
        self._clock = Clock()
        self._broken = False

        self._assembly = Assembly()
        self._buffer = Buffer()

        create_tables(self._store)
        # A collector that was started again has the same run_id: its batches must not look landed.
        writer = writer_of(run_id, part)
        self._journal = Journal(output, writer, secrets.token_hex(4))
        record_analyses(self._store, self._analyses.values(), run_id)
        lag = catch_up(self._store)
        wanted = None if analyses is None else self._analyses
        self._landed = read_landed(self._store, wanted)
        snapshot = self._store.open("indexes")
        ids = read_batches(self._store.files("indexes", snapshot).having(), ["video_id"])
        self._indexed = KeySet(batch.column("video_id") for batch in ids)
        for batch, entry in read_journal(output, writer):
            self._restore(batch, entry)
        indexes = snapshot.version()
        others = {
            table: SaidByOthers(
                self._store,
                table,
                (books or {}).get(table, self._store.open(table).version()),
                run_id,
            )
            for table in LOGS
        }
        self._flush = Flush(self._store, self._buffer, self.stats, lag, indexes, others)
        if self._buffer.waited_s is not None:
            self.flush()
        if analyses is not None:
            self._journal.turn(self._reports.as_facts())

    def __enter__(self) -> LedgerWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        elif not self._broken:
            # Whole shards are kept whatever ended the run; the first error is the one to tell.
            with suppress(RunAborted):
                self.flush()

    # -- shards -----------------------------------------------------------------------

    def begin(self, task: ShardTask, attempt: int) -> None:
        """Results of this attempt will come; what an earlier attempt sent is dropped."""
        self._assembly.begin(task, attempt)

    def add_result(self, result: ClipResult) -> WholeShard | None:
        """Take one clip. Returns the shard where this makes it whole.

        Results of an attempt that is unknown, superseded or discarded are ignored. Raises
        ValueError where the shard is whole but does not add up; it is dropped, to be redone.
        """
        return self._whole(self._assembly.add_result(result))

    def add_end(self, end: ShardEnd) -> WholeShard | None:
        """Take the end of a shard's stream, which may come before its last clips."""
        return self._whole(self._assembly.add_end(end))

    def discard(self, task_key: str, attempt: int) -> None:
        """An attempt has failed: forget what it sent, and ignore what may still come of it."""
        self._assembly.discard(task_key, attempt)

    def awaits(self, task_key: str, attempt: int) -> bool:
        """Whether results of this attempt are still to come."""
        return self._assembly.awaits(task_key, attempt)

    def _whole(self, parts: Parts | None) -> WholeShard | None:
        if parts is None or parts.end is None:
            return None
        task, end = parts.task, parts.end
        tables = remap(task, parts.results, end, self._analyses, self._run_id)
        counts: dict[str, int] = {}
        notes: list[Note] = []
        for fingerprint, rows in tables.items():
            table = self._analyses[fingerprint].table
            counts[table] = counts.get(table, 0) + rows.num_rows
            notes += self._notes_of(task, fingerprint, rows)
        if notes:
            # What is lost is said together with the rows that it explains, or not at all: a
            # shard may come a second time, after its first acknowledgement was lost.
            lost = lost_frames(task, end, self._frames_analysis)
            notes += [self._failures_note(failure) for failure in lost]
            self._keep(notes)
        return WholeShard(task.key, task.frame_count, counts)

    def add_derived(
        self, task: ShardTask, fingerprint: str, rows: pa.Table, state: str | None
    ) -> None:
        """Take a whole shard of an analysis that looks at rows and not at frames.

        Args:
            rows: in the schema of the analysis' table, sorted.
            state: what the shards behind it go on with; lands together with the rows, or not at
                all.
        """
        notes = self._notes_of(task, fingerprint, rows, state)
        if notes:
            self._keep(notes)

    def _notes_of(
        self, task: ShardTask, fingerprint: str, rows: pa.Table, state: str | None = None
    ) -> list[Note]:
        """A shard's rows in one analysis, for the journal; none where they have landed."""
        table = self._analyses[fingerprint].table
        shard = shard_row(task, fingerprint, rows.num_rows, self._run_id, state)
        name = shard_id(fingerprint, task.index.video_id, task.shard.shard_index)
        if not self._is_due(name, table, shard):
            return []
        return [Note("rows", rows, name, table), Note("shard", shard, name, table)]

    def _is_due(self, name: str, table: str, shard: pa.Table) -> bool:
        """Whether nobody has landed the shard (a row of `shards`), nor has it ready."""
        fingerprint, video_id, number = (
            shard.column(column)[0].as_py() for column in ("analysis", "video_id", "shard_index")
        )
        landed = self._landed.get(fingerprint)
        if landed is not None and number in landed.of(video_id):
            self.stats.landed_before += 1
            return False
        return not self._buffer.holds(name, table)

    def _failures_note(self, failure: Failure) -> Note:
        return Note("failures", failure_row(failure, self._run_id, self._clock.now()))

    # -- the journal --------------------------------------------------------------------

    def _keep(self, entry: list[Note]) -> None:
        """Journal an entry, and have it ready for the next commit."""
        self._journal.write(entry)
        self._buffer.take(self._journal.batch, entry)

    def _restore(self, batch: str, entry: list[Note]) -> None:
        """Take an entry that a process left, without what has landed since."""
        for note in entry:
            if note.kind == "mark":
                self._reports = Numbers.of_facts(note.facts)
                return
            self._reports.add(note.facts.get("report"))
        landed = {
            note.name
            for note in entry
            if note.kind == "shard" and not self._is_due(note.name, note.table, note.rows)
        }
        for note in entry:
            if note.kind == "index":
                video_id = note.rows.column("video_id")[0].as_py()
                if video_id in self._indexed:
                    landed.add(note.name)
                self._indexed.add(video_id)
        rest = [note for note in entry if not note.name or note.name not in landed]
        self._buffer.take(batch, rest)

    # -- videos -----------------------------------------------------------------------

    def add_index(self, index: VideoIndex) -> None:
        """Keep a video's index; a second one of the same video is ignored."""
        if index.video_id not in self._indexed:
            self._indexed.add(index.video_id)
            name = f"index-{index.video_id[:24]}"
            self._keep([Note("index", index_row(index, self._run_id), name)])

    def add_report(
        self, failures: Iterable[Failure], outcomes: Iterable[VideoOutcome], number: int = 0
    ) -> None:
        """Keep failures, and how videos ended; committed after all that was added before.

        Args:
            number: counts the reports of a run from 1; one that is told twice is taken once.
                0: nothing is told twice.
        """
        if number and not self._reports.add(number):
            return
        facts = {"report": number} if number else {}
        notes = [self._failures_note(failure) for failure in failures]
        for outcome in outcomes:
            row = video_row(outcome, self._analyses, self._run_id, self._clock.now())
            notes.append(Note("videos", row))
        self._keep([replace(note, facts=facts) for note in notes])

    def add_failure(self, failure: Failure) -> None:
        self.add_report([failure], [])

    def add_video(self, outcome: VideoOutcome) -> None:
        """Keep how a video ended."""
        self.add_report([], [outcome])

    # -- commits ----------------------------------------------------------------------

    @property
    def ready_bytes(self) -> int:
        """Bytes that the next flush would commit."""
        return self._buffer.nbytes

    @property
    def pending_bytes(self) -> int:
        """Bytes of shards that are not whole yet."""
        return self._assembly.nbytes

    def flush_if_due(self) -> bool:
        """Commit if `commit_bytes` are ready or the oldest of it has waited `commit_seconds`."""
        waited = self._buffer.waited_s
        if waited is None:
            return False
        if self._buffer.nbytes < self._commit_bytes and waited < self._commit_seconds:
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """Commit everything that is whole. Raises RunAborted where the store cannot take it."""
        started = time.perf_counter()
        try:
            for _, step in self.steps():
                step()
        except RunAborted:
            self._broken = True
            raise
        finally:
            self.stats.commit_s += time.perf_counter() - started
        self._buffer.committed()
        if self._journal.is_open:
            self._journal.turn(self._reports.as_facts())
        # What the commit needed goes back to the system: a long run must not look larger than
        # a short one.
        pa.default_memory_pool().release_unused()

    def close(self) -> None:
        """Commit what is whole; nothing is left to take over. Shards that are not are dropped."""
        self.flush()
        self._journal.remove()

    def steps(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """The commits of a flush, one table each, in their order."""
        return self._flush.steps(self._journal.batch if self._journal.is_open else "")
