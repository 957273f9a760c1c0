"""The tables as they were: one version of each, such that they speak of the same moment.

Each table has a log of its own, and a writer commits to them in the order indexes, failures,
frames, detections, embeddings, shards, videos. They are chosen the other way round, each at a
time no earlier than any commit that has been taken of the ones before. So whatever a row of
`videos` or `shards` names is there, also where clocks of writers differ:

    asked for   10:00:00
    videos      version 7 of 09:59:58        (8 is of 10:00:03)
    shards      the newest up to 10:00:00    and so on
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from pipeline.errors import UsageError
from pipeline.ledger.on_disk import sizes_of
from pipeline.ledger.parts import parts_of
from pipeline.ledger.schema import DATA_TABLES, TABLES
from pipeline.ledger.store import Store

_COMMITS_BACK = 20
"""Commits before a chosen one whose times are looked at too: with clocks that differ they may be
the later ones."""


@dataclass(frozen=True)
class PastStore(Store):
    """An output as of a moment: every table at one version."""

    versions: dict[str, int] = field(default_factory=dict)
    as_of: str = ""

    @property
    def is_past(self) -> bool:
        return True

    def exists(self, table: str) -> bool:
        return table in self.versions

    def open(self, table: str) -> DeltaTable:
        version = self.versions[table]
        try:
            snapshot = self._opened(table, version)
        except DeltaError:
            raise self._not_kept(table, "its log does not reach back so far") from None
        newest = {part.path for part in parts_of(Store(self.root).open(table))}
        old = {part.path for part in parts_of(snapshot)} - newest
        gone = old - sizes_of(self, table).keys() if old else ()
        if gone:
            raise self._not_kept(table, f"gc has removed {len(gone):,} files of it")
        return snapshot

    def _not_kept(self, table: str, why: str) -> UsageError:
        return UsageError(
            f"output {self.root}: table {table} as of {self.as_of} is not kept any more ({why}); "
            "name a later time"
        )


def open_store(output: str, as_of: str | datetime.datetime | None = None) -> Store:
    """The store of an output as it is, or as it was.

    Args:
        as_of: a time, as ISO 8601 where it is text; UTC where it names no time zone. Or the id of
            a run, for the moment at which it ended.

    Raises UsageError where `as_of` is neither, or history does not reach back so far.
    """
    store = Store(output)
    if as_of is None:
        return store
    ended = _end_of(output, as_of)
    at = ended if ended is not None else parse_time(as_of)
    return PastStore(output, versions=_versions(store, at), as_of=_text(at))


def _end_of(output: str, run_id: object) -> datetime.datetime | None:
    """When a run ended; None where there is no such run."""
    from pipeline.ledger.runs import read_runs

    if not isinstance(run_id, str) or not Store(output).exists("videos"):
        return None
    for run in read_runs(output):
        if run["run_id"] == run_id:
            if run["ended_at"] is None:
                raise UsageError(
                    f"output {output}: run {run_id} has not ended ({run['state']}); name a time"
                )
            return run["ended_at"]
    return None


def parse_time(given: str | datetime.datetime) -> datetime.datetime:
    """A moment with its time zone. Raises UsageError where the text is none."""
    if isinstance(given, str):
        try:
            # Python 3.10 does not know the Z.
            given = datetime.datetime.fromisoformat(given.strip().replace("Z", "+00:00"))
        except ValueError:
            raise UsageError(
                f"as of {given}: a time such as 2026-05-17T09:30:00 (UTC) or "
                "2026-05-17T09:30:00+02:00, or the id of a run, is expected"
            ) from None
    return given if given.tzinfo else given.replace(tzinfo=datetime.timezone.utc)


def _text(at: datetime.datetime) -> str:
    utc = at.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    return f"{utc.isoformat()}Z"


def _versions(store: Store, at: datetime.datetime) -> dict[str, int]:
    if not store.exists("videos"):
        raise UsageError(f"{store.root} is no frameledger output: it has no table videos")
    first = ("videos", "shards", *reversed(DATA_TABLES), "failures", "indexes")
    order = (*(name for name in TABLES if name not in first), *first)
    at_ms = at.timestamp() * 1000
    found = {}
    for table in order:
        if not store.exists(table):
            continue
        chosen = _newest(store, table, at_ms)
        if chosen is not None:
            found[table], at_ms = chosen
        elif table in first:
            raise _too_early(store, table, at)
    return found


def _newest(store: Store, table: str, at_ms: float) -> tuple[int, float] | None:
    """(version, time) of the last commit up to a time; the time is that of the latest commit
    that the version rests on, and at least the one asked for."""
    commits = _commits(store, table)
    for version, made_ms in commits:
        if made_ms <= at_ms:
            before = [ms for _, (_, ms) in zip(range(_COMMITS_BACK), commits, strict=False)]
            return version, max(at_ms, *before) if before else at_ms
    return None


def _commits(store: Store, table: str) -> Iterator[tuple[int, float]]:
    """(version, milliseconds since 1970) of a table's commits, the newest first."""
    for version in range(store.open(table).version(), -1, -1):
        entry = store.log_entry(table, version)
        if entry is None:
            return
        for line in entry.splitlines():
            if line.startswith(b'{"commitInfo"'):
                yield version, float(json.loads(line)["commitInfo"]["timestamp"])


def _too_early(store: Store, table: str, at: datetime.datetime) -> UsageError:
    oldest_ms = min((ms for _, ms in _commits(store, table)), default=None)
    begins = store.log_entry(table, 0) is not None
    what = "before the first commit" if begins else "older than the history that is kept"
    since = ""
    if oldest_ms is not None:
        first = datetime.datetime.fromtimestamp(oldest_ms / 1000, datetime.timezone.utc)
        since = (
            f", which begins at {_text(first)}" if not begins else f", which is of {_text(first)}"
        )
    return UsageError(f"output {store.root}: {_text(at)} is {what}{since}; name a later time")
