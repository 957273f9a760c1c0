"""What keeps a million videos within reach, held to on a few thousand."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable

from benchmarks import books_making as made
from benchmarks.books_rows import BOXES, name_of, video_id_of
from pipeline.ledger.books import Books
from pipeline.ledger.creation import create_tables
from pipeline.ledger.delta import Appender
from pipeline.ledger.reader import Ledger
from pipeline.ledger.scan import read_table
from pipeline.ledger.schema import DATA_COLUMNS, DATA_TABLES, plain
from pipeline.ledger.status import status
from pipeline.ledger.store import Store
from pipeline.preview import plan
from tests.ledger.corpus import boxes_of, open_writer, video_id, write_video

MANY, FEW = 4000, 1000


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Two outputs of finished corpora, of many videos and of few, each with real (empty) files."""
    root = tmp_path_factory.mktemp("books")
    for videos in (MANY, FEW):
        made.make_corpus(root / f"{videos}", videos)
        layout = made.ranges(range(videos), 500)
        made.make_tables(root / f"out-{videos}", root / f"{videos}", layout)
    return root


def test_planning_and_status_read_no_data(root: Path) -> None:
    """With the rows' files gone, and the indices, nothing is missed."""
    output = root / f"out-{FEW}"
    for table in (*DATA_TABLES, "indexes"):
        for file in (output / table).rglob("part-*.parquet"):
            file.unlink()
    preview = plan(made.config(), [str(root / str(FEW))], str(output))
    assert preview.videos == {"done": FEW}
    assert (preview.shards, preview.frames) == (0, 0)
    found = status(str(output))
    assert found.videos == {"ok": FEW}
    assert [a.videos for a in found.analyses] == [FEW] * 3
    assert {a.name: a.rows for a in found.analyses}["detector"] == FEW * BOXES


def test_what_planning_holds_of_a_video_is_small(root: Path) -> None:
    held = {}
    for videos in (FEW, MANY):
        before = pa.total_allocated_bytes()
        tracemalloc.start()
        books = Books(str(root / f"out-{videos}"))
        held[videos] = tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes() - before
        tracemalloc.stop()
        assert books.known(name_of(root / str(videos), videos - 1)) is not None
    assert (held[MANY] - held[FEW]) / (MANY - FEW) < 400


def test_videos_are_judged_alike_one_by_one_and_together(root: Path) -> None:
    books = Books(str(root / f"out-{MANY}"))
    names = [name_of(root / str(MANY), number) for number in (0, 7, MANY - 1, MANY)]
    assert books.known_many(names) == [books.known(name) for name in names]
    assert books.known(names[-1]) is None
    ids = [video_id_of(number) for number in (0, 7, MANY - 1, MANY)]
    prints = [a.fingerprint for a in Ledger(str(root / f"out-{MANY}")).analyses()]
    assert books.videos_done(ids, prints).tolist() == [True, True, True, False]
    assert books.videos_done(ids, [*prints, "unknown"]).tolist() == [False] * 4
    assert [all(books.video_done(i, f) for f in prints) for i in ids] == [True, True, True, False]


def test_a_lookup_opens_the_files_of_its_video_only(tmp_path) -> None:
    output = tmp_path / "o"
    names = sorted((f"v{i}" for i in range(12)), key=video_id)
    for name in names:  # ids ascend: files do not overlap
        with open_writer(output) as writer:
            write_video(writer, name)
    mine = pc.field("video_id") == video_id(names[5])
    for table in ("frames", *DATA_COLUMNS, "indexes"):
        dataset = Ledger(output).dataset(table)
        keep = {fragment.path for fragment in dataset.get_fragments(filter=mine)}
        assert len(keep) == 1
        for file in (output / table).rglob("part-*.parquet"):
            if str(file.relative_to(output / table)) not in keep:
                file.unlink()
    ledger = Ledger(output)
    frame = ledger.frame(f"/videos/{names[5]}.mp4", 10)
    assert frame.detections.num_rows == boxes_of(10)
    assert ledger.index(video_id(names[5])).frame_count == 50
    with pytest.raises(FileNotFoundError):
        ledger.frame(f"/videos/{names[6]}.mp4", 10)


def test_files_are_left_out_by_their_statistics_only(tmp_path) -> None:
    """A file without a value between its least and largest stays out, one of nulls does not count
    as having it, and an unknown column keeps all."""
    store = Store(str(tmp_path / "o"))
    create_tables(store)
    appender = Appender(store, "failures", None)
    for number, ids in enumerate((["b", "d"], ["e", "g"], [None, "c"])):
        rows = pa.Table.from_pylist(
            [{"uri": "u", "video_id": i} for i in ids], schema=plain("failures")
        )
        appender.append({str(number): rows}, lambda _: {})
    files = store.files("failures", store.open("failures"))
    assert [len(files.having(video_id=i).files) for i in "abcdefgh"] == [0, 1, 2, 1, 1, 1, 1, 0]
    assert len(files.having(reason="x").files) == len(files) == 3
    assert read_table(files.all, ["video_id"], pc.field("video_id").is_null()).num_rows == 1


def test_ids_leave_no_trace_in_the_table(tmp_path, monkeypatch) -> None:
    """However many ids have landed, a look reads the commits since the last one, no more."""
    store = Store(str(tmp_path / "o"))
    create_tables(store)
    empty = plain("failures").empty_table()
    appender = Appender(store, "failures", None)
    for number in range(5):
        appender.append({f"{number}-{i}": empty for i in range(100)}, lambda _: {})
    snapshot = DeltaTable(store.uri("failures"))
    assert snapshot.transaction_version("3-7") is None
    read = []
    original = Store.log_entry

    def counting(self, table, version):  # type: ignore[no-untyped-def]
        read.append(version)
        return original(self, table, version)

    monkeypatch.setattr(Store, "log_entry", counting)
    assert appender.append({"3-7": empty, "new": empty}, lambda _: {}).before == {"3-7"}
    assert read == [5]
    late = Appender(store, "failures", 3)
    read.clear()
    assert late.append({"4-1": empty, "new": empty}, lambda _: {}).landed == set()
    assert read == [4, 5, 6]


def test_compaction_between_appends_changes_nothing(tmp_path) -> None:
    store = Store(str(tmp_path / "o"))
    create_tables(store)
    row = pa.Table.from_pylist([{"uri": "u"}], schema=plain("failures"))
    appender = Appender(store, "failures", None)
    for name in "abc":
        appender.append({name: row}, lambda _: {})
    DeltaTable(store.uri("failures")).optimize.compact()
    done = appender.append({"a": row, "d": row}, lambda _: {})
    assert (done.landed, done.before) == ({"d"}, {"a"})
    assert DeltaTable(store.uri("failures")).count() == 4
