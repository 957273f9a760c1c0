"""What each analysis is, kept as a property of the table that it writes to."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError

from pipeline.errors import RunAborted, UsageError
from pipeline.ledger.patience import Patience
from pipeline.ledger.schema import DATA_TABLES
from pipeline.ledger.store import Store
from pipeline.records import Analysis

ANALYSIS_KEY = "frameledger.analysis."
"""What the property of a table begins with that keeps an analysis."""


_BASES = ("frames", "detections")
"""Keys of an identity that name another analysis."""


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
    superseded_at: str = ""
    """As above: when a run wanted another of the name in its place. Empty where that is not so."""

    def as_property(self, **changes: object) -> dict[str, str]:
        """The property that keeps it, with changes."""
        value = {k: v for k, v in vars(self).items() if k != "fingerprint"} | changes
        return {ANALYSIS_KEY + self.fingerprint: json.dumps(value, sort_keys=True)}


def based_on(analysis: RecordedAnalysis) -> set[str]:
    """Fingerprints of the analyses whose rows its own belong to."""
    return {str(analysis.identity[key]) for key in _BASES if key in analysis.identity}


def record_analyses(store: Store, analyses: Iterable[Analysis], run_id: str) -> None:
    """Keep what each analysis is, as a property of its table, and that it is the one wanted now.

    Writes nothing where that is known. Raises RunAborted where the store cannot be written, or
    where rows of an analysis are being removed.
    """
    for analysis in analyses:
        now = _now_iso()
        wanted = RecordedAnalysis(
            analysis.fingerprint, analysis.name, analysis.table, analysis.identity, now, now, run_id
        )
        tries = Patience(f"output {store.root}: cannot record analysis {analysis.name}")
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
                    wanted = replace(wanted, created_at=known[analysis.fingerprint].created_at)
                before = newest_analyses(known.values()).get(analysis.name)
                if before is not None and before.fingerprint == analysis.fingerprint:
                    break
                properties = wanted.as_property()
                if before is not None:
                    properties |= before.as_property(superseded_at=now)
                # A commit of another writer in between is refused, not overwritten.
                snapshot.alter.set_table_properties(properties, raise_if_not_exists=False)
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


def find_analysis(known: list[RecordedAnalysis], asked: str, output: str) -> RecordedAnalysis:
    """The one whose fingerprint begins with `asked`. Raises UsageError where that is not one."""
    found = [a for a in known if asked and a.fingerprint.startswith(asked)]
    if len(found) != 1:
        what = "is not one analysis but several" if found else "is no analysis here"
        there = ", ".join(f"{a.fingerprint} ({a.name})" for a in known) or "none"
        raise UsageError(f"{output}: {asked} {what}; there are {there}")
    return found[0]


def chosen_analyses(
    known: list[RecordedAnalysis], asked: str | None, output: str
) -> dict[str, list[str]]:
    """Fingerprints to read per data table: the newest, with `asked` in place of its own name."""
    chosen = newest_analyses(known)
    if asked is not None:
        one = find_analysis(known, asked, output)
        chosen[one.name] = one
        # An analysis' rows belong to the frames that it sampled, tracks to their detections.
        linked = [a for a in known if a.fingerprint in based_on(one)]
        chosen |= {a.name: a for a in linked}
    return {
        table: [a.fingerprint for a in chosen.values() if a.table == table] for table in DATA_TABLES
    }


def _now_iso() -> str:
    import datetime

    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds")
