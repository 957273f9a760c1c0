"""SQL over an output: its tables as views of a DuckDB that can reach nothing else.

`videos`, `frames`, `detections` and so on hold what is current, `all_videos`, `all_frames` and so
on everything. Rows go to DuckDB through Arrow datasets, which read from disks and stores alike.

DuckDB may open no file: with paths allowed for reading, a query could write to them as well (a
COPY may stand inside a SELECT of DuckDB 2).
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import UsageError
from pipeline.ledger.scan import View
from pipeline.ledger.schema import TABLES, plain
from pipeline.results.optional import load

if TYPE_CHECKING:
    import duckdb

    from pipeline.ledger.reader import Ledger

ALL = "all_"
"""What the names of views begin with that hold superseded rows too."""
BATCH_ROWS = 4096
_SHOW_TABLES = (
    "select view_name as name from duckdb_views() "
    "where not internal and not starts_with(view_name, '_')"
)


@contextmanager
def query(ledger: Ledger, text: str) -> Iterator[pa.RecordBatchReader]:
    """The rows that one SQL statement selects, streamed.

    Raises UsageError, in one line, for what DuckDB refuses.
    """
    duckdb = load("duckdb", "duckdb", "frameledger sql")
    with (
        tempfile.TemporaryDirectory() as spill,
        duckdb.connect(":memory:", config={"temp_directory": spill}) as connection,
    ):
        # Names of Python variables are tables otherwise.
        connection.execute("set python_enable_replacements = false")
        connection.execute("set enable_external_access = false")
        for name in _named(text):
            _add_view(connection, ledger, name)
        connection.execute("set lock_configuration = true")
        try:
            if len(duckdb.extract_statements(text)) != 1:
                raise UsageError("sql: one statement is expected, such as: select * from videos")
            result = connection.sql(_SHOW_TABLES if _shows_tables(text) else text)
            if result is None:
                raise UsageError("sql: the statement gives no rows; tables are only read here")
            # DuckDB 2 has another name for it.
            read = getattr(result, "to_arrow_reader", None) or result.fetch_record_batch
            yield _explained(read(BATCH_ROWS))
        except duckdb.Error as error:
            raise UsageError(f"sql: {_one_line(error)}") from None


def _explained(reader: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """The same batches; what goes wrong in the middle of them is explained too."""

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from reader
        except (pa.ArrowException, OSError) as error:
            raise UsageError(f"sql: {_one_line(error)}") from None

    return pa.RecordBatchReader.from_batches(reader.schema, batches())


def _shows_tables(text: str) -> bool:
    return re.sub(r"[\s;]+", " ", text).strip().lower() == "show tables"


def _named(text: str) -> list[str]:
    """The views that a query may mean: all where it names none, as `show tables` does."""
    names = [*TABLES, *(ALL + name for name in TABLES)]
    return [name for name in names if re.search(rf"\b{name}\b", text, re.IGNORECASE)] or names


def _add_view(connection: duckdb.DuckDBPyConnection, ledger: Ledger, name: str) -> None:
    table = name.removeprefix(ALL)
    current = name == table
    if name == "videos":
        connection.register(name, ledger.videos())
        return
    rows = ledger.view(table, current=current)
    files, others = rows.filterable()
    connection.register(f"_{name}", files)
    select = f"select {_columns(rows, table, current)} from"
    query = f"{select} _{name}{_where(connection, ledger, table, current)}"
    for number, other in enumerate(others):
        connection.register(f"_{name}_{number}", other.table())
        query += f" union all {select} _{name}_{number}"
    connection.execute(f"create view {name} as {query}")


def _where(connection: duckdb.DuckDBPyConnection, ledger: Ledger, table: str, current: bool) -> str:
    """What `ledger.view` reads of the table, as SQL: DuckDB does not see filters of a dataset."""
    prints, old = ledger.scope(table, current=current)
    parts = []
    if prints is not None:
        listed = ", ".join(f"'{fingerprint}'" for fingerprint in prints)
        parts.append(f"analysis in ({listed})" if prints else "false")
    if old:
        connection.register("_superseded", pa.table({"video_id": pa.array(old, pa.string())}))
        parts.append("video_id not in (select video_id from _superseded)")
    return " where " + " and ".join(parts) if parts else ""


def _columns(rows: View, table: str, current: bool) -> str:
    names = []
    for field in plain(table):
        dimensions = _dimensions(rows) if field.name == "embedding" and current else 0
        names.append(f"embedding::FLOAT[{dimensions}] as embedding" if dimensions else field.name)
    return ", ".join(names)


def _dimensions(rows: View) -> int:
    """Of the first embedding; 0 where there is none."""
    for batch in rows.batches(["embedding"], batch_rows=1):
        if len(batch):
            return int(pc.list_value_length(batch.column(0))[0].as_py())
    return 0


def _one_line(error: Exception) -> str:
    """DuckDB's message without the picture of where in the query it is."""
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not re.match(r"LINE \d+:|\^", line))
