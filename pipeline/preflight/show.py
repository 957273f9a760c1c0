"""The table that `frameledger preflight` prints."""

from __future__ import annotations

import sys

from pipeline.errors import EXIT_FAILURES, EXIT_OK
from pipeline.preflight.checks import Check

_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red"}
WIDTH = 120
"""Where nobody's terminal says otherwise."""


def print_checks(rows: list[Check]) -> int:
    """Print every check as a row; the exit code."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_edge=False)
    for heading in ("check", "state", "found", "what to do"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        remedy = row.remedy if row.state != "ok" else ""
        table.add_row(
            Text(row.name), Text(row.state, style=_STYLES[row.state]), Text(row.found), Text(remedy)
        )
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    with console.capture() as printed:
        console.print(table)
    for line in printed.get().splitlines():
        print(line.rstrip())
    failed = sum(row.state == "failed" for row in rows)
    warned = sum(row.state == "warning" for row in rows)
    print(f"{'NOT READY' if failed else 'ready'}: {failed} failed, {warned} warnings")
    return EXIT_FAILURES if failed else EXIT_OK
