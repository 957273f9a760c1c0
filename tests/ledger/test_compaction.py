"""Compaction: fewer files in order, and the same rows."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.ledger.compaction import FEWEST, bins_of
from pipeline.ledger.gc import gc
from pipeline.ledger.parts import Part, parts_of, statistics
from pipeline.ledger.reader import Ledger
from pipeline.ledger.rewrite import rewrite
from pipeline.ledger.schema import TABLES
from pipeline.ledger.store import Store
from pipeline.ledger.verify import verify
from tests.ledger.cleaning import many_commits, rows_of, unnamed
from tests.ledger.corpus import (
    video_id,
)


def test_compaction_keeps_rows_and_leaves_few_files(busy: str) -> None:
    before = rows_of(busy)
    report = gc(busy)
    assert {done.table for done in report.compacted} >= {"frames", "detections", "embeddings"}
    assert all(done.files_before > done.files_after for done in report.compacted)
    assert rows_of(busy) == before
    assert verify(busy).findings == []
    store = Store(busy)
    assert len(parts_of(store.open("frames"))) == 1
    again = gc(busy)
    assert (again.compacted, again.removed) == ([], [])


def test_compacted_files_are_in_order_and_skipped_by(tmp_path, monkeypatch) -> None:
    """One lookup reads the row groups of its video, where before it read some of each file."""
    from dataclasses import replace

    from pipeline.ledger import delta, rewrite

    small = replace(TABLES["embeddings"], row_group_rows=32)
    for module in (delta, rewrite):
        monkeypatch.setitem(module.TABLES, "embeddings", small)
    output = str(tmp_path / "o")
    many_commits(output, tuple(f"v{number}" for number in range(8)))
    gc(output)
    ledger = Ledger(output)
    dataset = ledger.dataset("embeddings")
    wanted = (pc.field("video_id") == video_id("v3")) & (pc.field("frame_index") == 48)
    (fragment,) = dataset.get_fragments(filter=wanted)
    assert fragment.metadata.num_row_groups == 7
    assert len(fragment.subset(wanted, schema=dataset.schema).row_groups) <= 2
    file = pq.read_table(Store(output).uri("embeddings") + "/" + fragment.path, partitioning=None)
    order = list(zip(file["video_id"].to_pylist(), file["frame_index"].to_pylist(), strict=True))
    assert order == sorted(order)
    vector = ledger.frame(video_id("v3"), 48).embedding
    assert vector is not None
    assert vector[0] == 48
    stranger = pc.field("video_id") == "g" * 64
    assert list(dataset.get_fragments(filter=stranger)) == []


def test_statistics_are_those_of_the_rows() -> None:
    rows = pa.table(
        {
            "a": pa.array([3, 1, None]),
            "none": pa.array([None, None, None], pa.string()),
            "nan": pa.array([1.0, float("inf"), 2.0]),
            "at": pa.array([5, 7, 6], pa.timestamp("us", tz="UTC")),
        }
    )
    found = json.loads(statistics(rows, ["a", "none", "nan", "at", "else"]))
    assert found["numRecords"] == 3
    assert found["nullCount"] == {"a": 1, "none": 3, "nan": 0, "at": 0}
    assert found["minValues"] == {"a": 1, "at": "1970-01-01T00:00:00.000005Z"}
    assert found["maxValues"] == {"a": 3, "at": "1970-01-01T00:00:00.000007Z"}


def test_bins_are_of_one_partition_and_bounded() -> None:
    def part(number: int, size: int, partition: str) -> Part:
        return Part(f"{partition}/{number}", size, 1, (("analysis", partition),))

    parts = [part(n, 10, "a") for n in range(25)] + [part(n, 10, "b") for n in range(FEWEST - 1)]
    parts.append(part(99, 60, "a"))
    bins = bins_of(parts, target_bytes=100)
    assert [len(one) for one in bins] == [10, 10, 5]
    assert all(
        one.partition == parts[0].partition and one.size_bytes == 10 for b in bins for one in b
    )


def test_two_rewrites_of_the_same_files_land_once(busy: str) -> None:
    before = rows_of(busy)
    store = Store(busy)
    first, second = store.open("frames"), store.open("frames")
    parts = parts_of(first)
    assert rewrite(store, "frames", first, [parts]) is not None
    assert rewrite(store, "frames", second, [parts]) is None
    assert rows_of(busy) == before
    found = unnamed(busy, "frames")
    assert found.orphaned == ()
    assert len(found.superseded) == len(parts)
