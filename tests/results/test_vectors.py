"""Embeddings streamed out of real tables: every row once, however files were written."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from deltalake import DeltaTable

from pipeline.ledger.reader import Ledger
from pipeline.results.query import embeddings_analysis
from pipeline.results.vectors import Block, Vectors, unit
from tests.ledger.corpus import DIM, open_writer, video_id, write_video

NAMES = ("a", "b", "c")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Three videos in several commits, so in several files."""
    for number, name in enumerate(NAMES):
        with open_writer(tmp_path / "out", f"run-{number}") as writer:
            write_video(writer, name, 50)
    return tmp_path / "out"


def vectors_of(output: Path, videos: frozenset[str] | None = None) -> Vectors:
    ledger = Ledger(output)
    return Vectors(ledger, embeddings_analysis(ledger), videos)


def everything(vectors: Vectors) -> list[tuple[str, int, float]]:
    """(video_id, frame, first value) of all rows as they come."""
    found, lock = [], threading.Lock()

    def use(block: Block) -> None:
        for name, part in block.by_video():
            for rows in block.rows(name, part):
                with lock:
                    for frame, vector in zip(rows.frames, rows.vectors, strict=True):
                        found.append((name, int(frame), float(vector[0])))

    vectors.each(use)
    return sorted(found)


EXPECTED = sorted((video_id(n), f, float(f)) for n in NAMES for f in range(0, 50, 2))


def test_every_row_comes_once(output: Path) -> None:
    assert everything(vectors_of(output)) == EXPECTED
    assert vectors_of(output).dimensions == DIM


def test_also_after_compaction_and_out_of_rewritten_files(output: Path) -> None:
    table = DeltaTable(str(output / "embeddings"))
    table.optimize.compact()
    assert everything(vectors_of(output)) == EXPECTED
    table.update(updates={"pts_s": "pts_s + 1"}, predicate="frame_index = 4")
    assert everything(vectors_of(output)) == EXPECTED


def test_rows_of_other_videos_may_be_left_out_but_none_of_the_wanted(output: Path) -> None:
    wanted = frozenset({video_id("b")})
    found = everything(vectors_of(output, wanted))
    assert [row for row in found if row[0] in wanted] == [e for e in EXPECTED if e[0] in wanted]
    # Each video has files of its own here.
    assert {name for name, _, _ in found} == wanted


def test_a_range_of_one_video(output: Path) -> None:
    vectors = vectors_of(output)
    rows = vectors.between(video_id("b"), 7, 14)
    assert rows is not None
    assert rows.frames.tolist() == [8, 10, 12, 14]
    assert rows.vectors[:, 0].tolist() == [8, 10, 12, 14]
    assert vectors.between(video_id("b"), 7, 7) is None


def test_an_error_while_reading_ends_it(output: Path) -> None:
    def fail(_: Block) -> None:
        raise ValueError("made up")

    with pytest.raises(ValueError, match="made up"):
        vectors_of(output).each(fail)


def test_unit_length() -> None:
    found = unit(np.float32([[3, 4], [0, 0]]))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]], rtol=1e-6)
