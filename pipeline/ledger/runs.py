"""The `runs` table: one row when a run begins its work, one when it ends; the latest row counts."""

from __future__ import annotations

import json
import platform
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import pyarrow as pa

from pipeline.ledger.alive import live_runs
from pipeline.ledger.books import latest_rows
from pipeline.ledger.creation import create_tables
from pipeline.ledger.damage import damage_is_said
from pipeline.ledger.delta import append_once
from pipeline.ledger.keys import keys_of
from pipeline.ledger.outcomes import Clock
from pipeline.ledger.scan import read_table
from pipeline.ledger.schema import plain
from pipeline.ledger.store import Store

PACKAGES = ("frameledger", "ray", "torch", "transformers", "detectron2", "av", "pyarrow")

State = Literal["running", "ended", "died"]


class StageTimes(TypedDict):
    """What the time of a run went into, in seconds; those of workers are summed over them."""

    startup_s: float
    """Of the run, before the first shard was handed out."""
    decode_s: float
    analyze_s: dict[str, float]
    """By analyzer."""
    wait_s: float
    """That workers had and did nothing in."""
    commit_s: float
    """Of the run's own: writing rows to the tables."""
    track_s: float
    """The same: making tracks, writing them included."""


@dataclass(frozen=True)
class RunRecord:
    """A run as the output remembers it."""

    run_id: str
    started_at: int
    """Microseconds since 1970, UTC."""
    config: str
    """JSON."""
    inputs: tuple[str, ...]
    analyses: tuple[str, ...]
    """Fingerprints of what the run wanted."""
    host: str = field(default_factory=socket.gethostname)
    versions: str = field(default_factory=lambda: json.dumps(versions()))
    """JSON: Python and the packages that rows depend on."""
    ended_at: int | None = None
    exit_code: int | None = None
    error: str = ""
    """Why it did not come to its end; empty where it did."""
    worked: tuple[str, ...] = ()
    """Fingerprints of the analyses that any video lacked."""
    videos_ok: int = 0
    videos_partial: int = 0
    videos_failed: int = 0
    videos_done_before: int = 0
    shards: int = 0
    frames: int = 0
    retries: int = 0
    steady_s: float = 0.0
    """From the first shard handed out to the last result."""
    total_s: float = 0.0
    stages: str = "{}"
    """JSON: `StageTimes`; empty where the run has not ended."""


class RunLog:
    """Writes what becomes of one run."""

    def __init__(self, output: str) -> None:
        self._store = Store(output)
        self._clock = Clock()

    def now(self) -> int:
        return self._clock.now()

    def write(self, record: RunRecord) -> None:
        """Add a row; once for each of its two moments, however often it is tried.

        Raises UsageError or RunAborted where the tables cannot be made or written.
        """
        create_tables(self._store)
        values = vars(record) | {"recorded_at": self._clock.now()}
        schema = plain("runs")
        row = pa.table([pa.array([values[f.name]], f.type) for f in schema], schema=schema)
        moment = "begin" if record.ended_at is None else "end"
        append_once(self._store, "runs", {f"{record.run_id}-{moment}": row}, lambda _: {})


def read_runs(output: str) -> list[dict[str, Any]]:
    """The latest row of each run, the first run first, each with its `state`.

    `running`: its process is alive. `died`: it is not, and never said that it ended.
    """
    store = Store(output)
    if not store.exists("runs"):
        return []
    with damage_is_said(store, all_there=False):
        rows = read_table(store.dataset("runs", store.open("runs")))
    newest = latest_rows(keys_of(rows.column("run_id")), rows.column("recorded_at"))
    found = rows.take(pa.array(newest)).sort_by("started_at").to_pylist()
    alive = live_runs(output)
    return [row | {"state": _state(row, alive)} for row in found]


def _state(row: dict[str, Any], alive: set[str]) -> State:
    if row["ended_at"] is not None:
        return "ended"
    return "running" if row["run_id"] in alive else "died"


def past_rate(runs: Iterable[dict[str, Any]], due: set[str]) -> tuple[float, bool] | None:
    """Frames per second to be expected where the analyses `due` are lacking, and whether a run
    that did these analyses says so.

    That of the latest run that did all of them, and as little else as any did; of the latest run
    at all, where none has done them: a changed model is often as fast as the one before. Start-up
    is left out. None where no run has done anything.
    """
    timed = [run for run in runs if run["frames"] and run["steady_s"] > 0]
    able = [run for run in timed if due <= set(run["worked"])]
    least = min((len(run["worked"]) for run in able), default=0)
    like = [run for run in able if len(run["worked"]) == least] or timed
    return (like[-1]["frames"] / like[-1]["steady_s"], bool(able)) if like else None


def versions() -> dict[str, str]:
    """Python and those of `PACKAGES` that are installed."""
    from importlib import metadata

    found = {"python": platform.python_version(), "system": platform.system()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
