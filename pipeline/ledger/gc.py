"""`frameledger gc`: small files put together, files that nobody names removed, logs kept short.

Safe beside a running writer and another gc, and safe to kill: whatever is done is done in atomic
commits, and a file goes only after nothing has named it for the grace period. What was cut short
is done by the next call.

Catching up comes first: it reads entries of the log, which may be expired only after that.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from deltalake.exceptions import CommitFailedError

from pipeline.errors import RunAborted, UsageError
from pipeline.ledger.alive import began_at, live_runs
from pipeline.ledger.catchup import catch_up, covering
from pipeline.ledger.compaction import Compacted, compact
from pipeline.ledger.damage import damage_is_said
from pipeline.ledger.journal import journals, run_of
from pipeline.ledger.on_disk import sizes_of, temporary_files, unnamed_files
from pipeline.ledger.parts import Part
from pipeline.ledger.schema import TABLES
from pipeline.ledger.store import Store
from pipeline.ledger.superseded import (
    analysis_parts,
    count_contents,
    drop_analysis,
    drop_contents,
    find_superseded,
)
from pipeline.tracks.state_files import StateFiles

GRACE_HOURS = 24
"""Far longer than a commit takes: a file that nothing has named for so long is nobody's."""
LONGEST_GRACE_HOURS = 168
"""Delta's log tells for a week which version named a file."""
LOG_DAYS = 30
"""How long entries of the log are kept, which is Delta's default."""
CHECKPOINT_EVERY = 10
"""Entries of the log since the last checkpoint that are worth a new one."""


@dataclass(frozen=True)
class Removed:
    """Files of a table that went, or would go."""

    table: str
    superseded: int
    """Named by earlier versions only."""
    orphaned: int
    """Named by no version: a writer died before its commit."""
    size_bytes: int


@dataclass(frozen=True)
class Dropped:
    """A superseded analysis, or all superseded contents, of which the rows went, or would go."""

    what: str
    rows: dict[str, int]


@dataclass
class GcReport:
    """What was done, or with `dry_run` would be."""

    output: str
    dry_run: bool
    dropped: list[Dropped] = field(default_factory=list)
    compacted: list[Compacted] = field(default_factory=list)
    removed: list[Removed] = field(default_factory=list)
    checkpoints: int = 0
    log_entries: int = 0
    """Expired entries of logs."""
    notes: list[str] = field(default_factory=list)
    """What was left for another time, and why."""
    history_since: float | None = None
    """Seconds since 1970: the tables as they were before cannot be read any more. None where
    nothing of history went."""


def gc(
    output: str,
    *,
    dry_run: bool = False,
    grace_hours: int = GRACE_HOURS,
    superseded: bool = False,
    keep_s: float = 0.0,
) -> GcReport:
    """Clean up an output.

    Args:
        dry_run: change nothing, and say what would be done.
        grace_hours: for how long a file must have been named by nobody before it goes; history
            stays readable for as long. 0 is for outputs that nobody else reads or writes. While
            runs are going on it reaches back to before the oldest of them began.
        superseded: also remove the rows of superseded analyses and of contents that no file has
            any more. Nothing of that is done while a run is going on, or has left a journal.
        keep_s: of those, leave what has been superseded for less than so many seconds.

    Raises UsageError where `output` is none, or damaged; RunAborted where it cannot be written.
    """
    if not 0 <= grace_hours <= LONGEST_GRACE_HOURS:
        raise UsageError(f"--grace {grace_hours}: 0 to {LONGEST_GRACE_HOURS} hours")
    store = Store(output)
    if not store.exists("videos"):
        raise UsageError(f"{output} is no frameledger output: it has no table videos")
    with damage_is_said(store):
        try:
            return _Gc(store, GcReport(output, dry_run), grace_hours, keep_s).run(superseded)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno is None:
                raise  # Arrow's, of a broken file.
            raise RunAborted(f"output {output}: cannot be written: {error}") from error


class _Gc:
    def __init__(self, store: Store, report: GcReport, grace_hours: int, keep_s: float) -> None:
        self._store = store
        self._report = report
        self._dry = report.dry_run
        self._grace_hours = grace_hours
        self._keep_s = keep_s
        self._going: dict[str, dict[str, Part]] = {name: {} for name in TABLES}
        """With `dry_run`: files that dropping and compacting would supersede, by path."""

    def run(self, superseded: bool) -> GcReport:
        note = covering(self._store)
        if not self._dry:
            catch_up(self._store)
        if superseded:
            self._patiently("superseded rows", self._drop)
        for table in TABLES:
            mine = note if table == "shards" else None
            self._patiently(f"compacting {table}", lambda t=table, n=mine: self._compact(t, n))  # type: ignore[misc]
        listed = {table: set.union(*self._unnamed(table)) for table in TABLES}
        if self._wait_for_runs():
            for table in TABLES:
                self._remove(table, listed[table])
        for table in TABLES:
            self._log(table)
        return self._report

    def _patiently(self, what: str, step: Callable[[], None]) -> None:
        try:
            step()
        except CommitFailedError:
            note = f"{what} is left for another time: other writers commit all the time"
            self._report.notes.append(note)

    # -- superseded -------------------------------------------------------------------

    def _held(self) -> str:
        """Why no rows may be removed now; empty where they may."""
        for run_id in sorted(live_runs(self._store.root)):
            return f"run {run_id} is going on"
        for name in journals(self._store.root):
            return f"run {run_of(name)} has left a journal, which the next run commits"
        return ""

    def _drop(self) -> None:
        held = self._held()
        if held:
            self._report.notes.append(f"superseded rows stay: {held}")
            return
        found = find_superseded(self._store, self._keep_s)
        for analysis in found.analyses:
            parts = analysis_parts(self._store, analysis)
            rows = {table: sum(part.rows for part in there) for table, there in parts.items()}
            if self._dry:
                for table, there in parts.items():
                    self._going[table] |= {part.path: part for part in there}
            elif not drop_analysis(self._store, analysis, lambda: not self._held()):
                note = f"analysis {analysis.name} {analysis.fingerprint} stays: a run has begun"
                self._report.notes.append(note)
                continue
            if not self._dry:
                # What a run left that was following videos when it died.
                StateFiles(self._store.root, analysis.fingerprint).sweep(lambda _: True)
            what = f"analysis {analysis.name} {analysis.fingerprint}"
            self._report.dropped.append(Dropped(what, rows))
        if found.contents:
            rows = count_contents(self._store, found.contents)
            held = "" if self._dry else self._held()  # Counting may have taken minutes.
            if held:
                self._report.notes.append(f"superseded contents stay: {held}")
                return
            if not self._dry:
                drop_contents(self._store, found.contents)
            what = f"{len(found.contents):,} contents that no file has now"
            self._report.dropped.append(Dropped(what, rows))

    # -- files ------------------------------------------------------------------------

    def _compact(self, table: str, note: object) -> None:
        done = compact(
            self._store, table, note, dry_run=self._dry, leave=frozenset(self._going[table])
        )
        if done is None:
            return
        self._report.compacted.append(done)
        if self._dry:
            self._going[table] |= {part.path: part for part in done.old}

    def _wait_for_runs(self) -> bool:
        """Let the grace period reach back to before the oldest run that is going on: it may look
        at tables as they were when it began. False where it began too long ago for that."""
        for run_id in sorted(live_runs(self._store.root)):
            age_hours = math.ceil((time.time() - began_at(self._store.root, run_id)) / 3600) + 1
            if age_hours > LONGEST_GRACE_HOURS:
                note = f"no file is removed: run {run_id} is going on for more than a week"
                self._report.notes.append(note)
                return False
            if age_hours > self._grace_hours:
                self._grace_hours = age_hours
                note = f"files of the last {age_hours} hours stay: run {run_id} is going on"
                self._report.notes.append(note)
        return True

    def _unnamed(self, table: str) -> tuple[set[str], set[str]]:
        """(superseded, orphaned) files that could go."""
        snapshot = self._store.open(table)
        found = unnamed_files(self._store, table, snapshot, self._grace_hours)
        temporary = temporary_files(self._store, table, self._grace_hours)
        return set(found.superseded), {*found.orphaned, *temporary}

    def _remove(self, table: str, listed: set[str]) -> None:
        """Remove what could go already when it was `listed`, before runs were asked for: a run that
        began since has written none of it."""
        superseded, orphaned = (files & listed for files in self._unnamed(table))
        if self._dry and not self._grace_hours:
            superseded |= set(self._going[table])
        gone = sorted(superseded | orphaned)
        if not gone:
            return
        sizes = sizes_of(self._store, table)
        nbytes = sum(sizes.get(path, 0) for path in gone)
        if not self._dry:
            self._store.folder.remove(f"{table}/{path}" for path in gone)
        self._report.removed.append(Removed(table, len(superseded), len(orphaned), nbytes))
        if superseded:
            self._report.history_since = time.time() - self._grace_hours * 3600

    # -- logs -------------------------------------------------------------------------

    def _log(self, table: str) -> None:
        snapshot = self._store.open(table)
        log = _Log(self._store, table)
        if snapshot.version() - log.checkpoint(snapshot.version()) >= CHECKPOINT_EVERY:
            self._report.checkpoints += 1
            if not self._dry:
                snapshot.create_checkpoint()
        expired = log.expired(time.time() - LOG_DAYS * 86400)
        if expired:
            self._report.log_entries += len(expired)
            oldest = time.time() - LOG_DAYS * 86400
            self._report.history_since = max(self._report.history_since or 0, oldest)
            if not self._dry:
                snapshot.cleanup_metadata()


class _Log:
    """The entries of a table's log: versions of commits and of checkpoints, with their times."""

    def __init__(self, store: Store, table: str) -> None:
        self.commits: dict[int, float] = {}
        self.checkpoints: dict[int, float] = {}
        for entry in store.folder.listed(f"{table}/_delta_log"):
            name = entry.name.rpartition("/")[2]
            if match := re.fullmatch(r"(\d{20})\.json", name):
                self.commits[int(match[1])] = entry.modified_s
            elif match := re.fullmatch(r"(\d{20})\.checkpoint.*\.parquet", name):
                self.checkpoints[int(match[1])] = entry.modified_s

    def checkpoint(self, version: int) -> int:
        """The newest checkpoint up to a version, 0 where there is none."""
        return max((v for v in self.checkpoints if v <= version), default=0)

    def expired(self, before: float) -> list[int]:
        """Commits that may go: every version since `before` can be had from a checkpoint."""
        old = max((v for v, at in self.commits.items() if at < before), default=-1)
        needed = self.checkpoint(old)
        return [version for version in self.commits if version < needed]
