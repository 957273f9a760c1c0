"""Files and tables that are missing or broken are named in a line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.ledger.books import Books
from pipeline.ledger.runs import RunLog, RunRecord, read_runs
from pipeline.ledger.status import status
from pipeline.ledger.store import Store
from pipeline.ledger.verify import verify


def _file(output: str, table: str) -> Path:
    return next(Path(Store(output).uri(table)).rglob("*.parquet"))


def _remove_file(output: str, table: str) -> None:
    _file(output, table).unlink()


def _cut_file(output: str, table: str) -> None:
    path = _file(output, table)
    path.write_bytes(path.read_bytes()[:40])


def _grow_file(output: str, table: str) -> None:
    with _file(output, table).open("ab") as file:
        file.write(b"more")


def _spoil_file(output: str, table: str) -> None:
    path = _file(output, table)
    path.write_bytes(b"x" * path.stat().st_size)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_remove_file, "the file is missing"),
        (_cut_file, "the file has 40 bytes, "),
        (_grow_file, "according to the log"),
        (_spoil_file, "the file cannot be opened"),
    ],
)
@pytest.mark.parametrize("table", ["frames", "shards", "videos"])
def test_a_damaged_file_is_named(output: str, table: str, damage, said: str) -> None:
    path = _file(output, table)
    damage(output, table)
    (finding,) = verify(output).findings
    assert finding.table == table
    assert str(path.relative_to(output)) in finding.what
    assert said in finding.what
    assert "\n" not in str(finding)


@pytest.mark.parametrize("folder", ["embeddings", "frames/_delta_log"])
def test_a_table_that_is_gone_is_said_in_one_line(output: str, folder: str) -> None:
    shutil.rmtree(Path(output) / folder)
    (finding,) = verify(output).findings
    assert finding.table == "output"
    assert f"table {folder.split('/')[0]} is missing" in str(finding)


def test_no_rows_are_written_where_a_table_is_gone(output: str) -> None:
    shutil.rmtree(Path(output) / "embeddings")
    with pytest.raises(UsageError, match="table embeddings is missing"):
        Books(output)
    with pytest.raises(UsageError, match="table embeddings is missing"):
        status(output)


@pytest.mark.parametrize("table", ["shards", "videos"])
def test_a_file_with_other_bytes_inside_is_said_in_one_line(output: str, table: str) -> None:
    path = _file(output, table)
    data = bytearray(path.read_bytes())
    data[10:-1000:97] = bytes(len(data[10:-1000:97]))
    path.write_bytes(data)
    with pytest.raises(UsageError, match="missing or broken"):
        Books(output)
    with pytest.raises(UsageError, match="missing or broken"):
        status(output)
    assert not verify(output).sound


def test_runs_that_cannot_be_read_are_said_in_one_line(output: str) -> None:
    log = RunLog(output)
    log.write(RunRecord("one", log.now(), "{}", ("v",), ()))
    assert len(read_runs(output)) == 1
    _spoil_file(output, "runs")
    with pytest.raises(UsageError, match="missing or broken"):
        read_runs(output)
