"""Rows found by their values: the same that a scan finds, with little read of the files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ledger import delta, lookup
from pipeline.ledger.files import Files
from pipeline.ledger.gc import gc
from pipeline.ledger.reader import Ledger
from pipeline.ledger.scan import read_table
from pipeline.ledger.schema import DATA_COLUMNS, TABLES
from pipeline.ledger.store import Store
from tests.ledger.cleaning import VIDEOS, many_commits
from tests.ledger.corpus import ANALYSES, open_writer, video_id, write_video

NAMES = (*VIDEOS, "gone", "nobody")
FILLED = ("frames", *DATA_COLUMNS)
"""Tables that have rows here."""


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> dict[str, Files]:
    """Data tables of many files, some of which a delete has rewritten, with small row groups."""
    output = str(tmp_path_factory.mktemp("lookup") / "o ü")
    with pytest.MonkeyPatch.context() as patch:
        for name in FILLED:
            patch.setitem(delta.TABLES, name, replace(TABLES[name], row_group_rows=8))
        many_commits(output)
        with open_writer(output) as writer:
            for name in ("gone", "stays"):
                write_video(writer, name)
        store = Store(output)
        for name in FILLED:
            DeltaTable(store.uri(name)).delete(f"video_id = '{video_id('gone')}'")
    return {name: store.files(name, store.open(name)) for name in FILLED}


@given(
    table=st.sampled_from(FILLED),
    video=st.sampled_from((*NAMES, "stays")),
    frame=st.none() | st.integers(-1, 60),
    prints=st.none() | st.lists(st.sampled_from(sorted(ANALYSES)), unique=True),
)
def test_the_rows_are_those_of_a_scan(tables, table, video, frame, prints) -> None:
    files = tables[table]
    assert len(files) > lookup._ONE_BY_ONE
    values = {"video_id": video_id(video)}
    wanted = pc.field("video_id") == video_id(video)
    if frame is not None:
        values["frame_index"] = frame
        wanted &= pc.field("frame_index") == frame
    if prints is not None:
        wanted &= pc.field("analysis").isin(pa.array(prints, pa.string()))
    order = [(name, "ascending") for name in TABLES[table].sort_by]
    found = files.rows(prints, **values)
    assert found.sort_by(order) == read_table(files.all, None, wanted).sort_by(order)
    if video in ("gone", "nobody"):
        assert not found.num_rows


def test_the_row_groups_of_one_frame_are_read_and_no_others(tmp_path, monkeypatch) -> None:
    """Of 8 files with 4 row groups each one is read: all others hold nothing but zeros."""
    spec = replace(TABLES["embeddings"], row_group_rows=32)
    monkeypatch.setitem(delta.TABLES, "embeddings", spec)
    output = str(tmp_path / "o")
    names = sorted((f"v{i}" for i in range(8)), key=video_id)
    for name in names:  # ids ascend: files do not overlap
        with open_writer(output) as writer:
            write_video(writer, name, frames=256)
    left = [
        wiped(file, video_id(names[3]), 100) for file in (Path(output) / "embeddings").rglob("p*")
    ]
    assert sorted(left) == [0] * 7 + [1]
    frame = Ledger(output).frame(f"/videos/{names[3]}.mp4", 100)
    assert frame.embedding is not None
    assert frame.embedding[0] == 100


def wiped(file: Path, video: str, frame: int) -> int:
    """Fill the row groups that do not hold a frame with zeros; how many are left."""
    footer, data, left = pq.read_metadata(file), bytearray(file.read_bytes()), 0
    names = [footer.schema.column(at).path for at in range(len(footer.schema))]
    for group in range(footer.num_row_groups):
        columns = [footer.row_group(group).column(at) for at in range(len(names))]
        known = {name: column.statistics for name, column in zip(names, columns, strict=True)}
        here = known["video_id"].min == video
        if here and known["frame_index"].min <= frame <= known["frame_index"].max:
            left += 1
            continue
        for column in columns:
            start = column.dictionary_page_offset or column.data_page_offset
            stop = start + column.total_compressed_size
            data[start:stop] = bytes(stop - start)
    file.write_bytes(bytes(data))
    return left


def test_footers_that_are_kept_are_bounded(tmp_path, monkeypatch) -> None:
    output = str(tmp_path / "o")
    many_commits(output)
    monkeypatch.setattr(lookup, "KEPT_BYTES", 6000)
    store = Store(output)
    files = store.files("frames", store.open("frames"))
    for _ in range(2):
        for name in VIDEOS:
            assert files.rows(video_id=video_id(name), frame_index=10).num_rows == 1
    kept = files._footers._kept.values()
    assert 0 < sum(footer.metadata.serialized_size for footer in kept) <= 6000
    assert len(kept) < len(files)


def test_a_ledger_that_is_open_follows_the_tables(tmp_path) -> None:
    output = str(tmp_path / "o")
    many_commits(output)
    ledger = Ledger(output)
    before = ledger.frame(video_id("v1"), 10)
    gc(output, grace_hours=0)
    after = ledger.frame(video_id("v1"), 10)
    assert after.detections == before.detections
    with open_writer(output) as writer:
        write_video(writer, "v1", frames=20, stamp="2:2", content="v1 now")
    assert ledger.frame("/videos/v1.mp4", 10).video_id == video_id("v1 now")
