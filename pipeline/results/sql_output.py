"""The rows of a query as people read them, and as CSV and JSON."""

from __future__ import annotations

import csv
import datetime
import json
import math
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import pyarrow as pa

WIDEST = 64
"""Characters of a value that are shown: a video_id is as long."""
_FIRST = 3
"""Values of a list that are shown."""


def print_rows(reader: pa.RecordBatchReader, most: int) -> None:
    """Print at most so many rows in columns, and say what is left out."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = []
    for row in _rows(reader):
        rows.append(row)
        if len(rows) > most:
            break
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for field in reader.schema:
        right = _is_number(field.type)
        table.add_column(Text(field.name), justify="right" if right else "left", no_wrap=True)
    for row in rows[:most]:
        table.add_row(*(Text(shown(value)) for value in row.values()))
    # As wide as the rows where nobody's terminal cuts them off.
    console = Console(width=None if sys.stdout.isatty() else 10_000)
    with console.capture() as printed:
        console.print(table)
    for line in printed.get().splitlines():
        print(line.rstrip())
    if len(rows) > most:
        print(f"the first {most:,} rows; there are more: --rows N shows them, --csv FILE keeps all")
    else:
        print(f"{len(rows):,} row{'s' if len(rows) != 1 else ''}")


def shown(value: Any) -> str:
    """A value on one line, its middle or end left out where it is long."""
    if isinstance(value, list) and len(value) > 2 * _FIRST:
        first = ", ".join(shown(one) for one in value[:_FIRST])
        return f"[{first}, ... {len(value):,} values]"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else "" if value is None else str(plain(value))
    text = text.replace("\n", " ") if "\n" in text and len(text) < WIDEST else text
    return text if len(text) <= WIDEST or "\n" in text else f"{text[: WIDEST - 3]}..."


def write_csv(reader: pa.RecordBatchReader, file: TextIO) -> int:
    """All rows as CSV, lists and structs as JSON within it; how many."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(reader.schema.names)
    count = 0
    for row in _rows(reader):
        values = (plain(value) for value in row.values())
        writer.writerow([json.dumps(v) if isinstance(v, (list, dict)) else v for v in values])
        count += 1
    return count


def write_json(reader: pa.RecordBatchReader, file: TextIO) -> int:
    """All rows as a JSON array of objects, one a line; how many."""
    count = 0
    file.write("[")
    for row in _rows(reader):
        file.write(",\n" if count else "\n")
        json.dump({name: plain(value) for name, value in row.items()}, file, ensure_ascii=False)
        count += 1
    file.write("\n]\n" if count else "]\n")
    return count


def plain(value: Any) -> Any:
    """A value as JSON has it: times in ISO 8601, bytes in hex, what is not finite as null."""
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)


def _rows(reader: pa.RecordBatchReader) -> Iterator[dict[str, Any]]:
    for batch in reader:
        names = batch.schema.names
        for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            # By place: two columns of a query may have one name.
            yield dict(zip(_unique(names), values, strict=True))


def _unique(names: list[str]) -> list[str]:
    return [n if names.index(n) == i else f"{n}_{i}" for i, n in enumerate(names)]


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )
