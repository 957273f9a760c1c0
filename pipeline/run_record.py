"""What a run was, for who follows it from elsewhere: its name, and one line that it prints last.

A job, a terminal over ssh or `kubectl logs` hands on text, and often not the exit code. The line
begins with `PREFIX` and holds JSON: `exit_code`, `run_id`, `output`, `error`, and the counts.
"""

from __future__ import annotations

import datetime
import json
import re
import secrets
from typing import Any

from cluster.submit import PREFIX
from pipeline.errors import FrameledgerError, UsageError

_LEFT_OUT = ("config", "inputs", "versions", "worked", "stages", "recorded_at")


def new_run_id() -> str:
    """The time in UTC and six random digits: names sort as runs began."""
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%S")
    return f"{now}-{secrets.token_hex(3)}"


def check_run_id(run_id: str) -> str:
    """The name, which becomes one of a folder. Raises UsageError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", run_id):
        raise UsageError(f"--run-id {run_id}: up to 100 letters, digits, - and _ are expected")
    return run_id


def record_in(output: str, run_id: str) -> dict[str, Any] | None:
    """The run's row of the table `runs`; None where there is none, or `output` is out of reach."""
    from pipeline.ledger.runs import read_runs

    try:
        rows = [row for row in read_runs(output) if row["run_id"] == run_id]
    except (FrameledgerError, OSError):
        return None
    if not rows:
        return None
    kept = {key: _plain(value) for key, value in rows[0].items() if key not in _LEFT_OUT}
    return {"output": output} | kept


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime.datetime) else value


def last_record(text: str) -> dict[str, Any] | None:
    """The record that `text` ends with, or nearly so."""
    for line in reversed(text.splitlines()):
        if line.startswith(PREFIX):
            try:
                record = json.loads(line[len(PREFIX) :])
            except ValueError:  # A line that was cut.
                continue
            if isinstance(record, dict) and isinstance(record.get("exit_code"), int):
                return record
    return None


def in_words(record: dict[str, Any]) -> str:
    """A record in a line for people."""
    counts = [
        f"{record[f'videos_{state}']:,} {state}"
        for state in ("ok", "partial", "failed")
        if f"videos_{state}" in record
    ]
    words = [f"exit {record['exit_code']}"]
    if counts:
        words.append(f"{', '.join(counts)}, {record.get('frames', 0):,} frames")
    if record.get("error"):
        words.append(str(record["error"]))
    return "; ".join(words)
