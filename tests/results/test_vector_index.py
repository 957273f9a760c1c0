"""The vector index: what it finds is what an exact search finds, whatever became of the files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.search_making import make, scenes
from pipeline.cli import invoke
from pipeline.config_file import parse_config
from pipeline.errors import UsageError
from pipeline.ledger.gc import gc
from pipeline.ledger.reader import Ledger
from pipeline.results.pixels import read_frames
from pipeline.results.query import embeddings_analysis
from pipeline.results.search import search
from pipeline.results.vector_index import FOLDER, SAME, build_index, open_index, unlike
from pipeline.results.vectors import Vectors
from pipeline.runner import run
from tests.videos import make as make_video

ROWS, DIMENSIONS, CHUNK = 30_000, 32, 5_000
some = partial(scenes, dimensions=DIMENSIONS, chunk_rows=CHUNK)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory) -> Path:
    """30,000 vectors of 600 scenes in six files, and their index."""
    output = tmp_path_factory.mktemp("index") / "out"
    make(output, ROWS, some)
    assert invoke(["index", str(output)]) == (0, "")
    return output


@pytest.fixture
def own(indexed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(indexed, tmp_path / "out"))


def queries(count: int) -> list[np.ndarray]:
    _, vectors = next(some(50 * count, seed=1))
    return list(vectors[25::50])


def groups_read(vectors: Vectors) -> int:
    return len(list(vectors._groups()))


def test_what_it_finds_is_what_an_exact_search_finds(indexed: Path) -> None:
    shares = []
    for vector in queries(10):
        exact = search(indexed, vector=vector, k=10)
        found = search(indexed, vector=vector, k=10, approximate=True)
        assert [hit.rank for hit in found] == list(range(1, 11))
        known = {(hit.video_id, hit.frame_index): hit for hit in exact}
        here = [
            (known[at], hit) for hit in found if (at := (hit.video_id, hit.frame_index)) in known
        ]
        for wanted, hit in here:
            assert (hit.score, hit.start_frame, hit.end_frame) == (
                wanted.score, wanted.start_frame, wanted.end_frame,
            )  # fmt: skip
        shares.append(len(here) / len(exact))
    assert np.mean(shares) >= 0.95


def test_it_leaves_row_groups_out(indexed: Path) -> None:
    ledger = Ledger(indexed)
    of = embeddings_analysis(ledger)
    index, vectors = open_index(ledger, of), Vectors(ledger, of)
    assert index.newer(vectors) == []
    near = index._near(queries(1)[0], 8)
    assert 1 <= groups_read(vectors.only(near)) <= 8 < groups_read(vectors) == 60


def test_rows_that_have_come_since_are_found_and_then_indexed(own: Path, capsys) -> None:
    ledger = Ledger(own)
    before = open_index(ledger, embeddings_analysis(ledger)).named
    make(own, ROWS + CHUNK, lambda count: _last(some(count)))
    (_, vectors), new = next(_last(some(ROWS + CHUNK))), 4321
    ask = partial(search, own, vector=vectors[new], k=3, approximate=True)
    assert ask()[0].frame_index == (ROWS + new) % 10_000
    assert ask()[0].score == pytest.approx(1)
    built = build_index(Ledger(own), embeddings_analysis(ledger))
    assert (built.rows, built.added) == (ROWS + CHUNK, CHUNK)
    assert ask()[0].frame_index == (ROWS + new) % 10_000
    after = open_index(ledger, embeddings_analysis(ledger)).named
    assert set(before.files) < set(after.files)
    assert {path.name for path in (own / FOLDER).iterdir()} == {
        after.graph, f"{after.analysis}.json", "lock"
    }  # fmt: skip
    assert build_index(Ledger(own), embeddings_analysis(ledger)).added == 0


def _last(parts: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
    yield list(parts)[-1]


def test_when_gc_has_put_the_files_together_it_is_exact_until_it_is_made_anew(own: Path) -> None:
    vector = queries(1)[0]
    before = search(own, vector=vector, k=5)
    gc(str(own), grace_hours=0)
    ledger = Ledger(own)
    of = embeddings_analysis(ledger)
    vectors = Vectors(ledger, of)
    assert open_index(ledger, of).newer(vectors) == vectors.files
    assert search(own, vector=vector, k=5, approximate=True) == before
    assert build_index(ledger, of).added == ROWS
    assert open_index(ledger, of).newer(vectors) == []


def test_a_user_is_told(own: Path, tmp_path: Path) -> None:
    vector = queries(1)[0]
    with pytest.raises(UsageError, match="an index knows no videos and classes"):
        search(own, vector=vector, video="*", approximate=True)
    (graph,) = (own / FOLDER).glob("*.usearch")
    graph.write_bytes(b"no graph")
    with pytest.raises(UsageError, match=r"cannot be opened \(.*make it anew with `frameledger"):
        search(own, vector=vector, approximate=True)
    shutil.rmtree(own / FOLDER)
    (own / FOLDER).touch()
    with pytest.raises(UsageError, match=r"cannot be opened \(.*make it anew with `frameledger"):
        search(own, vector=vector, approximate=True)
    (own / FOLDER).unlink()
    with pytest.raises(UsageError, match=r"has no index of embeddings .*`frameledger index "):
        search(own, "before any model is looked for", approximate=True)
    with pytest.raises(UsageError, match="no frameledger output"):
        build_index(Ledger(tmp_path / "none"), embeddings_analysis(Ledger(own)))


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """1,000 vectors, and their index."""
    make(tmp_path / "few", 1_000, some)
    ledger = Ledger(tmp_path / "few")
    build_index(ledger, embeddings_analysis(ledger))
    return tmp_path / "few"


@pytest.mark.parametrize("kept", [0, 0.5, 1 - 1e-6])
def test_one_that_is_damaged_is_made_anew(few: Path, kept: float) -> None:
    (graph,) = (few / FOLDER).glob("*.usearch")
    os.truncate(graph, int(kept * graph.stat().st_size))
    assert build_index(Ledger(few), embeddings_analysis(Ledger(few))).added == 1_000
    assert len(search(few, vector=queries(1)[0], approximate=True)) == 20


def test_more_may_be_asked_for_than_there_is(few: Path) -> None:
    vector = queries(1)[0]
    every = search(few, vector=vector, k=10**12)
    assert search(few, vector=vector, k=10**12, approximate=True) == every


def test_of_two_that_index_at_once_both_end_well(own: Path) -> None:
    shutil.rmtree(own / FOLDER)
    command = [sys.executable, "-m", "pipeline", "index", str(own)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [(one.wait(), one.communicate()[1]) for one in both] == [(0, ""), (0, "")]
    assert len(list((own / FOLDER).glob("*.usearch"))) == 1
    assert len(search(own, vector=queries(1)[0], approximate=True)) == 20


def test_the_command_says_which_files_are_newer(tmp_path: Path, capsys) -> None:
    config = parse_config({"embedder": {"backend": "probe"}}, where="test")
    for name, frames in (("a.mp4", 12), ("b.mp4", 60)):
        run(config, [str(make_video(tmp_path / name, frames))], tmp_path / "out", engine="local")
        if name == "a.mp4":
            assert invoke(["index", str(tmp_path / "out")]) == (0, "")
            assert capsys.readouterr().out.startswith("index    12 embeddings (12 new), ")
    ((_, picture),) = read_frames(Ledger(tmp_path / "out"), str(tmp_path / "b.mp4"), [50])
    Image.fromarray(picture).save(tmp_path / "asked.png")
    asked = ["search", str(tmp_path / "out"), "--image", str(tmp_path / "asked.png"), "--no-merge"]
    assert invoke([*asked, "--approximate", "--k", "1"]) == (0, "")
    printed = capsys.readouterr()
    assert printed.out.splitlines()[1].endswith("b.mp4")
    assert "1 file is newer than the index" in printed.err
    assert invoke(["index", str(tmp_path / "out")]) == (0, "")
    assert invoke([*asked, "--approximate", "--k", "1"]) == (0, "")
    assert "newer" not in capsys.readouterr().err


def test_a_vector_that_is_no_number_hides_no_other() -> None:
    vectors = np.full((3, 4), 0.5, np.float32)
    vectors[0] = np.nan
    assert unlike(vectors).tolist() == [0, 1]


def test_frames_that_are_the_same_are_in_the_graph_once() -> None:
    _, vectors = next(some(500))
    places = unlike(vectors)
    assert places[0] == 0
    assert 10 <= len(places) < 100
    for at in range(500):
        assert vectors[places[places <= at][-1]] @ vectors[at] >= SAME or at in places
