from __future__ import annotations

import json
import multiprocessing as mp

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from pipeline.errors import RunAborted, UsageError
from pipeline.ledger import delta, patience
from pipeline.ledger.analyses import newest_analyses, read_analyses, record_analyses
from pipeline.ledger.creation import create_tables
from pipeline.ledger.delta import append_once, commit_notes
from pipeline.ledger.outcomes import failure_row
from pipeline.ledger.schema import DATA_COLUMNS, SCHEMA_VERSION, TABLES
from pipeline.ledger.store import Store
from pipeline.records import Analysis, Failure
from tests.chaos.faults import SmallDisk
from tests.ledger.corpus import ALL, DETECTOR, open_writer, write_video


def _row(reason: str) -> pa.Table:
    return failure_row(Failure("u", "index", reason), "run", 1)


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(str(tmp_path / "o"))
    create_tables(store)
    return store


def test_a_disk_too_full_for_the_tables_is_no_mistake_of_the_user(tmp_path) -> None:
    if not SmallDisk.permitted(tmp_path):
        pytest.skip("this user may not mount a small disk")
    for number, kib in enumerate((8, 48)):
        disk = SmallDisk(tmp_path / f"o{number}", kib * 2**10)
        try:
            with pytest.raises(RunAborted, match="no space left on the disk"):
                create_tables(Store(str(disk.folder)))
            disk.grow()
            create_tables(Store(str(disk.folder)))
        finally:
            disk.close()


def test_tables_say_what_they_are(store: Store) -> None:
    create_tables(store)  # again: nothing happens
    for name, spec in TABLES.items():
        table = DeltaTable(store.uri(name))
        assert table.version() == 0
        meta = table.metadata()
        assert (meta.name, meta.description) == (name, spec.description)
        assert meta.partition_columns == list(spec.partition_by)
        assert meta.configuration["frameledger.schemaVersion"] == str(SCHEMA_VERSION)
        comments = {field.name: field.metadata.get("comment") for field in table.schema().fields}
        assert list(comments) == spec.schema.names
        assert all(comments.values())
        assert set(spec.skipping_columns + spec.sort_by) <= set(spec.schema.names)


def test_data_columns_are_those_of_the_tables() -> None:
    for table, columns in DATA_COLUMNS.items():
        for field in columns:
            assert TABLES[table].schema.field(field.name).type == field.type


def test_an_id_lands_once(store: Store) -> None:
    first = append_once(store, "failures", {"a": _row("1"), "b": _row("2")}, lambda ids: ids)
    assert first.landed == {"a", "b"}
    assert first.version == 1
    again = append_once(store, "failures", {"b": _row("2"), "c": _row("3")}, lambda ids: ids)
    assert (again.landed, again.before, again.version) == ({"c"}, {"b"}, 2)
    none = append_once(store, "failures", {"a": _row("1")}, lambda ids: ids)
    assert (none.landed, none.before, none.version) == (set(), {"a"}, None)
    assert DeltaTable(store.uri("failures")).count() == 3
    assert dict(commit_notes(store, "failures", range(9))) == {1: ["a", "b"], 2: ["c"]}


def test_a_lost_race_is_looked_at_again(store: Store, monkeypatch) -> None:
    """Another writer lands one of the ids between the look and the append.

    `write` is wrapped to put a real append exactly there, which two processes would meet rarely.
    """
    original = delta.write
    others = iter([{"b": _row("other")}])

    def raced(*args):  # type: ignore[no-untyped-def]
        for rows in others:
            append_once(store, "failures", rows, lambda ids: ids)
        original(*args)

    monkeypatch.setattr(delta, "write", raced)
    done = append_once(store, "failures", {"a": _row("1"), "b": _row("2")}, lambda ids: ids)
    assert (done.landed, done.before) == ({"a"}, {"b"})
    reasons = DeltaTable(store.uri("failures")).to_pyarrow_table().column("reason").to_pylist()
    assert sorted(reasons) == ["1", "other"]


def test_an_append_that_landed_though_it_raised_is_ours(store: Store, monkeypatch) -> None:
    """An object store that answers too late: a local folder cannot be made to lose an answer."""
    original = delta.write
    troubles = iter([OSError("connection reset")])

    def shaky(*args):  # type: ignore[no-untyped-def]
        original(*args)
        for trouble in troubles:
            raise trouble

    monkeypatch.setattr(delta, "write", shaky)
    done = append_once(store, "failures", {"a": _row("1")}, lambda ids: ids)
    assert (done.landed, done.before) == ({"a"}, set())
    assert DeltaTable(store.uri("failures")).count() == 1


def test_a_store_that_stays_broken_ends_the_run(store: Store, monkeypatch) -> None:
    """The system's own error, raised by hand: filling a disk needs rights that tests lack."""
    monkeypatch.setattr(patience, "_FIRST_WAIT_S", 0.0)

    def full(*args):  # type: ignore[no-untyped-def]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(delta, "write", full)
    with pytest.raises(RunAborted, match=r"failures: .*No space left on device \(5 tries\)"):
        append_once(store, "failures", {"a": _row("1")}, lambda ids: ids)


def test_analyses_are_recorded_once_in_the_order_of_their_coming(store: Store) -> None:
    record_analyses(store, ALL, "run-1")
    record_analyses(store, ALL, "run-2")
    newer = Analysis("embedder", "embeddings", {"model": 'ü "quoted" \'é', "n": [1, 2.5, None]})
    record_analyses(store, [newer], "run-3")
    found = read_analyses(store)
    assert [a.fingerprint for a in found] == [a.fingerprint for a in (*ALL, newer)]
    assert [a.run_id for a in found] == ["run-1"] * 3 + ["run-3"]
    assert found[-1].identity == newer.identity
    newest = newest_analyses(found)
    assert newest["embedder"].fingerprint == newer.fingerprint
    assert newest["detector"].fingerprint == DETECTOR.fingerprint
    assert DeltaTable(store.uri("embeddings")).version() == 2


def _make_and_record(path: str, barrier, number: int) -> None:  # type: ignore[no-untyped-def]
    barrier.wait()
    store = Store(path)
    create_tables(store)
    record_analyses(store, [*ALL, Analysis("tracker", "detections", {"n": number})], "run")


def test_two_processes_make_and_record_at_once(tmp_path) -> None:
    context = mp.get_context("spawn")
    barrier = context.Barrier(2)
    path = str(tmp_path / "o")
    workers = [context.Process(target=_make_and_record, args=(path, barrier, i)) for i in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    names = sorted(a.name for a in read_analyses(Store(path)))
    assert names == ["detector", "embedder", "frames", "tracker", "tracker"]


@pytest.mark.parametrize("name", ["with space", "ümläut 日本", "q?a#b&c=d+e;f", "d'q\"e"])
def test_paths(tmp_path, name: str) -> None:
    with open_writer(tmp_path / name) as writer:
        write_video(writer, "a", frames=4)
    store = Store(str(tmp_path / name))
    assert store.dataset("frames", store.open("frames")).count_rows() == 2
    assert (tmp_path / name / "frames" / "_delta_log").is_dir()


@pytest.mark.parametrize("name", ["a[b", "a%20b", "a|b"])
def test_paths_that_delta_would_get_wrong_are_refused(tmp_path, name: str) -> None:
    with pytest.raises(UsageError, match="rename the folder"):
        Store(str(tmp_path / name))


def test_tables_of_another_version_are_refused(store: Store) -> None:
    DeltaTable(store.uri("videos")).alter.set_table_properties(
        {"frameledger.schemaVersion": "99"}, raise_if_not_exists=False
    )
    with pytest.raises(UsageError, match="tables have version 99"):
        create_tables(store)


def test_files_are_laid_out_for_lookups(tmp_path) -> None:
    with open_writer(tmp_path / "o") as writer:
        write_video(writer, "b")
        write_video(writer, "a")
    store = Store(str(tmp_path / "o"))
    fragments = store.dataset("embeddings", store.open("embeddings")).get_fragments()
    path = next(iter(fragments)).path
    file = pq.ParquetFile(store.uri("embeddings") + "/" + path)
    columns = {}
    for number in range(file.metadata.num_columns):
        column = file.metadata.row_group(0).column(number)
        columns[column.path_in_schema.split(".")[0]] = column
    assert columns["embedding"].compression == "ZSTD"
    assert not columns["embedding"].is_stats_set
    assert not any("DICTIONARY" in encoding for encoding in columns["embedding"].encodings)
    assert columns["video_id"].is_stats_set
    assert any("DICTIONARY" in encoding for encoding in columns["video_id"].encodings)
    rows = file.read().select(["video_id", "frame_index"]).to_pylist()
    assert rows == sorted(rows, key=lambda row: (row["video_id"], row["frame_index"]))
    actions = pa.table(store.open("embeddings").get_add_actions(flatten=True))
    assert {"min.video_id", "max.frame_index"} <= set(actions.column_names)


def test_commits_of_others_are_no_notes_of_ours(store: Store) -> None:
    write_deltalake(
        store.uri("failures"),
        _row("1"),
        mode="append",
        commit_properties=CommitProperties(custom_metadata={"other": json.dumps([1])}),
    )
    assert list(commit_notes(store, "failures", range(5))) == []
