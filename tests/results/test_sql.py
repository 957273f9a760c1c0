"""SQL sees the live tables, current by default, and can do nothing but read them."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import sys
from pathlib import Path

import pytest

from pipeline import Ledger
from pipeline.cli import invoke
from pipeline.errors import UsageError
from pipeline.ledger.schema import TABLES
from pipeline.results.sql import query
from tests.ledger.corpus import DIM, EMBEDDER, FRAMES, feed, make_tasks, open_writer, write_video
from tests.object_store import object_store, used_here
from tests.results.reading import made_up


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> str:
    return made_up(tmp_path_factory.mktemp("sql") / "o ü")


def rows(output: str, text: str) -> list[tuple]:  # type: ignore[type-arg]
    with query(Ledger(output), text) as reader:
        return [tuple(row.values()) for row in reader.read_all().to_pylist()]


def test_every_table_is_a_view(output: str) -> None:
    ledger = Ledger(output)
    names = {name for (name,) in rows(output, "show tables;")}
    assert names == {*TABLES, *(f"all_{name}" for name in TABLES)}
    for name in TABLES:
        with query(ledger, f"select * from {name}") as reader:
            found = reader.read_all()
        assert found.schema.names == TABLES[name].schema.names
        assert found.num_rows == ledger.table(name).num_rows


def test_values_are_those_of_the_ledger(output: str) -> None:
    wanted = Ledger(output).select("detections").to_pylist()
    order = "order by video_id, frame_index, detection_index"
    with query(Ledger(output), f"select * from detections {order}") as reader:
        assert reader.read_all().to_pylist() == wanted
    joined = (
        "select uri, count(*), max(frame_index), sum(embedding[1]) from embeddings "
        "join videos using (video_id) group by uri order by uri"
    )
    sums = [(n, sum(range(0, n, 2))) for n in (50, 133, 20)]
    assert rows(output, joined) == [
        ("/videos/a.mp4", 25, 48, sums[0][1]),
        ("/videos/b.mp4", 67, 132, sums[1][1]),
        ("/videos/c.mp4", 9, 18, sums[2][1] - 6),
    ]


def test_vectors_have_their_length(output: str) -> None:
    text = "select distinct typeof(embedding) from "
    assert rows(output, f"{text} embeddings") == [(f"FLOAT[{DIM}]",)]
    assert rows(output, f"{text} all_embeddings") == [("FLOAT[]",)]
    near = (
        "select frame_index, array_distance(embedding, "
        "(select embedding from embeddings where frame_index = 132)) d "
        "from embeddings order by d limit 2"
    )
    assert rows(output, near) == [(132, 0.0), (130, pytest.approx(2 * math.sqrt(DIM)))]


def test_what_is_superseded_is_in_the_other_views(tmp_path) -> None:
    from pipeline.ledger.commit import LedgerWriter
    from pipeline.records import Analysis

    output = str(tmp_path / "o")
    with open_writer(output) as writer:
        write_video(writer, "a")
        write_video(writer, "b")
    with open_writer(output, "run-2") as writer:
        write_video(writer, "a", frames=10, stamp="2:2", content="a2")
    newer = Analysis("embedder", "embeddings", {"model": "c", "frames": FRAMES.fingerprint})
    analyses = {FRAMES.fingerprint: FRAMES, newer.fingerprint: newer}
    with LedgerWriter(output, "run-3", analyses) as writer:
        for task in make_tasks("b", analyses=(newer,)):
            feed(writer, task)
    assert rows(output, "select count(*) from frames") == [(30,)]
    assert rows(output, "select count(*) from all_frames") == [(55,)]
    assert rows(output, "select analysis, count(*) from embeddings group by 1") == [
        (newer.fingerprint, 25)
    ]
    assert rows(
        output, f"select count(*) from all_embeddings where analysis = '{EMBEDDER.fingerprint}'"
    ) == [(55,)]
    assert rows(output, "select count(*) from videos, all_videos") == [(2 * 3,)]


def test_files_that_a_deletion_rewrote_are_read_too(tmp_path) -> None:
    """delta-rs declares their strings as views, which Arrow cannot filter on reading."""
    from pipeline.ledger.store import Store

    output = made_up(tmp_path / "o")
    Store(output).open("detections").delete("frame_index = 2 or frame_index = 48")
    text = "select count(*), min(class_name) from detections where class_name = 'thing'"
    wanted = Ledger(output).table("detections").num_rows
    assert rows(output, text) == [(wanted, "thing")]


HARMFUL = (
    "copy (select 1) to '{target}'",
    "with x as (copy (select 1) to '{target}') select * from x",
    "explain analyze copy (select 1) to '{target}'",
    "copy videos to '{target}'",
    "attach '{target}'",
    "export database '{target}'",
    "select * from read_parquet('{file}')",
    "select * from '{file}'",
    "select * from read_text('{file}')",
    "select * from glob('{folder}/*')",
    "install httpfs",
    "set enable_external_access = true",
    "select * from ledger",
    "delete from videos",
    "drop table videos",
)


@pytest.mark.parametrize("text", HARMFUL)
def test_a_query_reaches_nothing_else(output: str, tmp_path, text: str) -> None:
    ledger = Ledger(output)  # A Python variable, which DuckDB would take for a table.
    file = f"{output}/detections/{ledger.dataset('detections').files[0]}"
    before = _content(Path(output))
    where = {"target": file if "copy" in text else tmp_path / "new", "file": file, "folder": output}
    with (
        pytest.raises(UsageError, match=r"^sql: [^\n]+$"),
        query(ledger, text.format(**where)) as reader,
    ):
        reader.read_all()
    assert _content(Path(output)) == before
    assert not (tmp_path / "new").exists()


def _content(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


MISTAKES = {
    "selec 1": 'Parser Error: syntax error at or near "selec"',
    "select nope from frames": 'Referenced column "nope" not found',
    "select * from frame": 'Did you mean "frames"',
    "select 1; select 2": "one statement is expected",
    "  ": "one statement is expected",
    "select cast(class_name as int) from detections": "Could not convert string 'thing'",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_are_one_line(output: str, text: str, capsys) -> None:
    code, error = invoke(["sql", output, text])
    assert (code, error.count("\n")) == (2, 0)
    assert MISTAKES[text] in error
    assert capsys.readouterr().out == ""


def test_without_duckdb_it_says_what_to_install(output: str, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    code, error = invoke(["sql", output, "select 1"])
    assert (code, error) == (2, "frameledger sql needs duckdb: pip install duckdb")


def test_rows_are_printed_and_what_is_left_out_is_said(output: str, capsys) -> None:
    invoke(["sql", output, "select frame_index, embedding from embeddings", "--rows", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["frame_index", "embedding"]
    assert len(lines) == 2 + 3 + 1
    assert lines[2].endswith("... 8 values]")
    assert lines[-1].startswith("the first 3 rows; there are more")
    invoke(["sql", output, "select uri, status, 0.1::float as x from videos"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["/videos/a.mp4", "ok", "0.1"]
    assert lines[-1] == "3 rows"


def test_json_and_csv(output: str, tmp_path, capsys) -> None:
    text = "select frame_index, embedding[1:2] as e, 'ü,\"' as t, null as n, 'nan'::double as x "
    text += "from embeddings order by video_id, frame_index"
    invoke(["sql", output, text, "--json", "-"])
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 101
    first = found[0]
    assert first == {"frame_index": 0, "e": [0.0, 0.0], "t": 'ü,"', "n": None, "x": None}
    target = tmp_path / "rows.csv"
    invoke(["sql", output, text, "--csv", str(target)])
    assert capsys.readouterr().out == f"101 rows in {target}\n"
    with target.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 101
    assert table[0] == {"frame_index": "0", "e": "[0.0, 0.0]", "t": 'ü,"', "n": "", "x": ""}
    assert [p.name for p in tmp_path.iterdir()] == ["rows.csv"]


def test_on_an_object_store() -> None:
    with object_store() as server, used_here(server):
        output = made_up("s3://tables/sql")  # type: ignore[arg-type]
        text = "select count(*), sum(embedding[1]) from embeddings where frame_index >= 10"
        wanted = [i for n in (50, 133, 20) for i in range(10, n, 2)]
        assert rows(output, text) == [(len(wanted), sum(wanted))]
