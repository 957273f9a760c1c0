"""The account that a run gives of itself at its end, however that comes: a record, for programs
and alerts as JSON, for people as Markdown.

Whatever ends a run ends in it: done, at its budget, with failures, aborted, not even begun.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import socket
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pipeline.durations import said
from pipeline.errors import EXIT_ABORTED, EXIT_OK, FrameledgerError, UsageError
from pipeline.storage.uris import is_remote, join

if TYPE_CHECKING:
    from pipeline.config import Config, PriceConfig
    from pipeline.engine.stats import Left, RunStats
    from pipeline.summary import RunSummary

JSON, MARKDOWN = "run.json", "run.md"
TOP_REASONS = 10


class Account:
    """A context around a run, which is told of it what there is to tell."""

    def __init__(self, folder: str | Path | None, stats: RunStats, output: str) -> None:
        """`folder`: where the record is written, a URI of a store among what it may be; None:
        nowhere. Raises UsageError where it cannot be made."""
        self.config: Config | None = None
        self.run_id = ""
        self.summary: RunSummary | None = None
        self._folder = str(folder) if folder is not None else None
        self._stats = stats
        self._output = output
        self._began_s = time.time()
        if self._folder and not is_remote(self._folder):
            try:
                os.makedirs(os.path.expanduser(self._folder), exist_ok=True)
            except OSError as error:
                raise UsageError(f"--report {self._folder}: {error.strerror}") from None

    def __enter__(self) -> Account:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write and tell. What fails of that is a note, and changes nothing of the run's end."""
        notes = self._settle(self._record(error))
        if self.summary is not None:
            self.summary = replace(self.summary, notes=(*self.summary.notes, *notes))
            return
        for note in notes:
            logging.getLogger("frameledger").warning("frameledger: %s", note)

    def _settle(self, record: dict[str, Any]) -> list[str]:
        notes = []
        if self._folder:
            try:
                _write(join(self._folder, JSON), json.dumps(record, indent=2) + "\n")
                _write(join(self._folder, MARKDOWN), as_markdown(record))
            except (OSError, FrameledgerError) as error:
                why = getattr(error, "strerror", None) or str(error)
                notes.append(f"--report {self._folder}: not written: {why}")
        if self.config is not None and self.config.alert is not None:
            from pipeline.alert import alert

            problem = alert(self.config.alert, record)
            notes += [problem] if problem else []
        return notes

    def _record(self, error: BaseException | None) -> dict[str, Any]:
        stats, summary = self._stats, self.summary
        total_s = time.perf_counter() - stats.started_at
        code, why = _ended(error, summary)
        left = stats.left
        if error is not None:
            begun = stats.videos_begun_only
            left = replace(left, why="its end", videos=begun, counted=False)
        record: dict[str, Any] = {
            "text": "",
            "exit_code": code,
            "error": why,
            "run_id": self.run_id,
            "host": socket.gethostname(),
            "output": summary.output if summary else self._output,
            "started_at": _iso(self._began_s),
            "ended_at": _iso(self._began_s + total_s),
            "engine": stats.engine,
            "videos": {
                **stats.videos,
                "done_before": stats.skipped_done,
                "partial_before": stats.known_partial,
                "failed_before": stats.known_failed,
            },
            "frames": stats.frames,
            "shards": stats.shards,
            "rows": dict(stats.rows),
            "retries": stats.retries,
            "frames_per_s": stats.frames_per_s,
            "startup_s": stats.startup_s if stats.first_work_at else total_s,
            "steady_s": stats.steady_s,
            "total_s": total_s,
            "cost": None,
            "failures": [asdict(one) for one in stats.reasons.top(TOP_REASONS)],
            "left": {
                **asdict(left),
                "failed": stats.videos["failed"] + stats.known_failed,
                "to_other_run": summary.left_to if summary else "",
            },
            "notes": [*stats.notes],
        }
        if self.config is not None and self.config.price is not None:
            record["cost"] = cost(self.config.price, total_s, stats.frames)
        record["text"] = in_a_line(record)
        return record


def cost(price: PriceConfig, seconds: float, frames: int) -> dict[str, Any]:
    """What so many seconds cost, in all and for 1,000 frames (None where there are none)."""
    total = price.per_hour * seconds / 3600
    return {
        "currency": price.currency,
        "per_hour": price.per_hour,
        "total": total,
        "per_1000_frames": total / frames * 1000 if frames else None,
    }


def left_in_words(left: Left) -> str:
    """What a run leaves and why, empty where that is nothing."""
    parts = []
    if left.videos:
        known = f"{'' if left.counted else 'at least '}{left.videos:,} videos at {left.why}"
        if left.planned_shards:
            known += f", of which {left.planned_frames:,} frames in {left.planned_shards:,} shards"
            known += " were planned"
        parts.append(known)
    elif not left.counted:
        parts.append("what was not looked at")
    if left.other_run:
        parts.append(f"{left.other_run:,} videos that another run works on")
    return "; ".join(parts)


def in_a_line(record: dict[str, Any]) -> str:
    """How the run went, for a message."""
    name = f"frameledger {record['output']}: "
    if record["error"]:
        return f"{name}aborted (exit code {record['exit_code']}): {record['error']}"
    if record["left"]["to_other_run"]:
        return f"{name}left to {record['left']['to_other_run']}"
    videos, left = record["videos"], record["left"]
    counts = f"{videos['ok']:,} ok, {videos['partial']:,} partial, {videos['failed']:,} failed"
    more = f", {left['videos']:,} left at {left['why']}" if left["videos"] else ""
    took = said(record["total_s"])
    return f"{name}exit code {record['exit_code']}: videos {counts}{more}; {took}"


def as_markdown(record: dict[str, Any]) -> str:
    """The record for people, on half a page."""
    videos, left, money = record["videos"], record["left"], record["cost"]
    lines = [
        f"# Run {record['run_id'] or '(not begun)'}",
        "",
        _cell(record["text"]),
        "",
        "| | |",
        "|---|---|",
        f"| when | {record['started_at']} to {record['ended_at']}, on {record['host']} |",
        f"| videos | {videos['ok']:,} ok, {videos['partial']:,} partial, {videos['failed']:,} "
        f"failed; {videos['done_before']:,} were done before |",
        f"| frames | {record['frames']:,} in {record['shards']:,} shards |",
        f"| throughput | {record['frames_per_s']:,.1f} frames/s over {record['steady_s']:,.1f} s "
        f"of {record['total_s']:,.1f} s |",
    ]
    if money is not None:
        each = money["per_1000_frames"]
        rate = f", {each:,.4f} for 1,000 frames" if each is not None else ""
        lines.append(
            f"| cost | {money['total']:,.4f} {money['currency']}{rate} "
            f"(at {money['per_hour']:,g} an hour) |"
        )
    lines.append(f"| left | {_left_cell(left)} |")
    if record["failures"]:
        lines += ["", "| failures | stage | reason | first |", "|---|---|---|---|"]
        for one in record["failures"]:
            reason, uri = _cell(one["reason"]), _cell(one["uri"])
            lines.append(f"| {one['failures']:,} | {one['stage']} | {reason} | {uri} |")
    lines += ["", *(f"- {_cell(note)}" for note in record["notes"])] if record["notes"] else []
    return "\n".join(lines) + "\n"


def _left_cell(left: dict[str, Any]) -> str:
    from pipeline.engine.stats import Left

    if left["to_other_run"]:
        return f"all to {_cell(left['to_other_run'])}"
    known = Left(**{key: left[key] for key in Left.__dataclass_fields__})
    parts = [left_in_words(known)] if known else []
    if left["failed"]:
        parts.append(f"{left['failed']:,} videos that failed (--retry-failed tries them again)")
    return "; ".join(parts) or "nothing"


def _ended(error: BaseException | None, summary: RunSummary | None) -> tuple[int, str]:
    """Exit code, and why the run did not come to its end."""
    if error is None:
        return (summary.exit_code if summary is not None else EXIT_OK), ""
    if isinstance(error, FrameledgerError):
        return error.exit_code, str(error)
    if isinstance(error, KeyboardInterrupt):
        return EXIT_ABORTED, "stopped from outside; what was committed is kept"
    line = " ".join(str(error).split())[:300]
    return EXIT_ABORTED, f"{type(error).__name__}: {line}"


def _write(path: str, text: str) -> None:
    """Whole or not at all, also for whoever reads it meanwhile."""
    if is_remote(path):
        from pipeline.storage.objects import write

        write(path, text.encode())
        return
    path = os.path.expanduser(path)
    new = f"{path}.{os.getpid()}.tmp"
    Path(new).write_text(text, encoding="utf-8", errors="backslashreplace")
    os.replace(new, path)


def _cell(text: str) -> str:
    """Within a Markdown table: no bar and no line break of its own, and no control characters."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return shown.replace("\\", "\\\\").replace("|", "\\|")


def _iso(seconds: float) -> str:
    when = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return when.isoformat(timespec="seconds").replace("+00:00", "Z")
