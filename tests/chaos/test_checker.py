"""The checker finds what a fault could do to tables."""

from __future__ import annotations

import shutil

import pyarrow.compute as pc
import pytest
from deltalake import write_deltalake

from pipeline.ledger.store import Store
from tests.chaos.checker import GivenUp, Tables, check_tables, stray_files


@pytest.fixture
def output(corpus, tmp_path):
    return shutil.copytree(corpus.truth, tmp_path / "out")


def test_equal_tables_pass(corpus, output):
    assert check_tables(output, Tables(corpus.truth), GivenUp()) == []
    assert stray_files(output) == []


@pytest.mark.parametrize("table", ["frames", "embeddings", "shards", "indexes"])
def test_rows_twice_are_found(corpus, output, table):
    snapshot = Store(str(output)).open(table)
    write_deltalake(snapshot, snapshot.to_pyarrow_table().slice(0, 5), mode="append")
    wrong = "\n".join(check_tables(output, Tables(corpus.truth), GivenUp()))
    assert f"{table}: 5 rows twice, 0 lost" in wrong


@pytest.mark.parametrize("table", ["frames", "embeddings", "shards", "indexes", "videos"])
def test_lost_rows_are_found(corpus, output, table):
    Store(str(output)).open(table).delete(f"video_id = '{corpus.video_id('b.mkv')}'")
    wrong = "\n".join(check_tables(output, Tables(corpus.truth), GivenUp()))
    assert f"{table}: 0 rows twice" in wrong
    assert " lost" in wrong


def test_changed_contents_are_found(corpus, output):
    snapshot = Store(str(output)).open("embeddings")
    snapshot.update({"embedding": "make_array(1.0)"}, predicate="frame_index = 7")
    assert "embeddings: contents differ" in "\n".join(
        check_tables(output, Tables(corpus.truth), GivenUp())
    )


def test_only_what_was_given_up_may_be_missing(corpus, output):
    video = corpus.video_id("a.mp4")
    shard = Tables(corpus.truth).rows("shards").filter(pc.field("video_id") == video)
    first, last = (shard.column(name)[0].as_py() for name in ("first_frame", "last_frame"))
    where = f"video_id = '{video}' and frame_index between {first} and {last}"
    for table in ("frames", "embeddings"):
        Store(str(output)).open(table).delete(where)
    given_up = GivenUp(shards=frozenset([(video, shard.column("shard_index")[0].as_py())]))
    wrong = check_tables(output, Tables(corpus.truth), given_up)
    assert not [line for line in wrong if line.startswith(("frames:", "embeddings:"))]
    assert any("lacks rows" in line for line in wrong)


def test_files_that_no_table_names_are_found(output):
    (output / "frames" / "part-0.parquet").write_bytes(b"left by a crash")
    (output / "other").write_text("")
    assert len(stray_files(output)) == 2
