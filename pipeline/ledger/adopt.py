"""What runs that died have left in their journals: taken over before a new run is planned."""

from __future__ import annotations

from collections.abc import Collection

from pipeline.ledger.alive import dead_runs, forget, live_runs
from pipeline.ledger.commit import LedgerWriter
from pipeline.ledger.journal import journals, read_journal, run_of


def adopt(output: str, alive: Collection[str] | None = None) -> dict[str, int]:
    """Commit the shards that dead runs had finished and not committed.

    Two processes may do so at once, beside runs that are going on. Raises RunAborted where the
    tables cannot be written.

    Args:
        alive: runs that are still going on, whose journals are their own business; found out
            where it is None.

    Returns rows per table that landed through this call.
    """
    rows: dict[str, int] = {}
    found = journals(output)
    if found and alive is None:
        # Asked after the journals were listed: a run has its lease before it has one.
        alive = live_runs(output)
    for name in found:
        if run_of(name) in (alive or ()):
            continue
        with LedgerWriter(output, name, None) as writer:
            pass
        for table, count in writer.stats.rows.items():
            rows[table] = rows.get(table, 0) + count
    return rows


def left_whole(output: str, alive: Collection[str]) -> dict[str, str]:
    """The ids of shards that `adopt` would commit, each with its run; nothing is written.

    What has landed since may still be among them.
    """
    return {
        note.name: run_of(name)
        for name in journals(output)
        if run_of(name) not in alive
        for _, entry in read_journal(output, name)
        for note in entry
        if note.kind == "shard"
    }


def has_left(output: str) -> bool:
    """Whether any run has left a journal, dead or alive."""
    return bool(journals(output))


def take_over_from_dead(output: str) -> None:
    """Land what dead runs have left whole, and forget them."""
    dead = dead_runs(output)
    adopt(output)
    for run_id in dead:
        forget(output, run_id)
