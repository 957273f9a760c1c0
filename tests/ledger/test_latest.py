from __future__ import annotations

from pathlib import Path

from pipeline.ledger.reader import Ledger
from pipeline.records import Failure
from tests.ledger.corpus import open_writer, write_video

COLUMNS = ["uri", "reason", "recorded_at"]


def written(output: Path, runs: int) -> list[Path]:
    """Three failures by each of some runs; the file that each made."""
    made: list[Path] = []
    for number in range(runs):
        with open_writer(output, f"run-{number}") as writer:
            if not number:
                write_video(writer, "a", frames=10)
            for part in range(3):
                writer.add_failure(Failure(f"/videos/{part}.mp4", "index", f"run {number}"))
        there = set((output / "failures").glob("*.parquet"))
        made += there - set(made)
    return made


def test_the_latest_rows_are_those_of_a_sort_and_older_files_are_not_read(tmp_path) -> None:
    output = tmp_path / "o"
    files = written(output, 4)
    assert len(files) == 4
    ledger = Ledger(output)
    every = ledger.table("failures", COLUMNS)
    wanted = every.sort_by([("recorded_at", "descending"), ("uri", "ascending")]).to_pylist()
    for rows in (1, 2, 4, 11, 12, 100):
        latest, there = ledger.latest("failures", rows, COLUMNS)
        assert there == 12
        assert latest.to_pylist() == wanted[:rows]
    for file in files[:2]:
        file.unlink()
    assert ledger.latest("failures", 5, COLUMNS)[0].to_pylist() == wanted[:5]


def test_of_a_table_without_rows_there_are_none(tmp_path) -> None:
    with open_writer(tmp_path / "o") as writer:
        write_video(writer, "a", frames=10)
    latest, there = Ledger(tmp_path / "o").latest("failures", 5, COLUMNS)
    assert (latest.num_rows, latest.schema.names, there) == (0, COLUMNS, 0)
