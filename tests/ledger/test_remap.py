from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ledger.remap import remap
from pipeline.ledger.schema import plain
from pipeline.sources.plan import Grid
from tests.ledger.corpus import (
    ANALYSES,
    DETECTOR,
    EMBEDDER,
    FRAMES,
    boxes_of,
    make_index,
    make_results,
    make_tasks,
)


def _remap(task, results, end):
    return remap(task, results, end, ANALYSES, "run-1")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_frame_once_whatever_the_grid_and_order(data) -> None:
    length = data.draw(st.integers(1, 7))
    grid = Grid(
        sampling={"stride": data.draw(st.integers(1, 5))},
        length=length,
        step=data.draw(st.integers(1, length)),
        shard_frames=data.draw(st.integers(1, 40)),
    )
    count = data.draw(st.integers(1, 70))
    lost = data.draw(st.frozensets(st.integers(0, count - 1), max_size=5))
    frames, boxes, vectors = [], [], []
    for task in make_tasks("v", count, grid=grid):
        results, end = make_results(task, lost=lost)
        tables = _remap(task, data.draw(st.permutations(results)), end)
        assert set(tables) == set(ANALYSES)
        for fingerprint, table in tables.items():
            assert table.schema == plain(ANALYSES[fingerprint].table)
        frames += tables[FRAMES.fingerprint].to_pylist()
        boxes += tables[DETECTOR.fingerprint].to_pylist()
        vectors += tables[EMBEDDER.fingerprint].to_pylist()
    index = make_index("v", count)
    sampled = list(range(0, count, grid.sampling["stride"]))
    there = [f for f in sampled if f not in lost]
    assert [row["frame_index"] for row in frames] == sampled
    assert [row["status"] == "ok" for row in frames] == [f not in lost for f in sampled]
    assert [row["pts"] for row in frames] == index.pts[sampled].tolist()
    assert [row["pts_s"] for row in frames] == [p / 30000 for p in index.pts[sampled].tolist()]
    assert [row["is_keyframe"] for row in frames] == [f % 8 == 0 for f in sampled]
    assert [(v["frame_index"], v["embedding"][0]) for v in vectors] == [(f, f) for f in there]
    wanted = [(f, i) for f in there for i in range(boxes_of(f))]
    assert [(row["frame_index"], row["detection_index"]) for row in boxes] == wanted
    assert [row["x1"] for row in boxes] == [f % 30 for f, _ in wanted]


def test_order_within_a_frame_is_the_analyzers() -> None:
    task = make_tasks("v", 8)[0]
    results, end = make_results(task)
    rows = results[0].rows[DETECTOR.fingerprint]
    scores = np.linspace(1, 0.1, len(rows)).astype(np.float32)
    rows = rows.set_column(5, "score", pa.array(scores)).slice(0)
    shuffled = rows.take(pa.array([2, 0, 1]))  # frames 4, 2, 4: the order of frame 4 stays 2, 1
    results[0] = replace(results[0], rows={**results[0].rows, DETECTOR.fingerprint: shuffled})
    table = _remap(task, results, end)[DETECTOR.fingerprint].to_pydict()
    assert table["frame_index"] == [2, 4, 4]
    assert table["detection_index"] == [0, 0, 1]
    assert table["score"] == [float(scores[i]) for i in (0, 2, 1)]


def _change(results, at, **values):
    results[at] = replace(results[at], **values)


def _drop_clip(task, results, end):
    return results[1:], end


def _double_clip(task, results, end):
    return [*results, results[0]], end


def _foreign(task, results, end):
    _change(results, 0, task_key="other/0")
    return results, end


def _other_attempt(task, results, end):
    _change(results, 0, attempt=2)
    return results, end


def _outside(task, results, end):
    _change(results, 0, positions=results[0].positions + 4)
    return results, end


def _repeated_position(task, results, end):
    positions = results[0].positions.copy()
    positions[1] = positions[0]
    _change(results, 0, positions=positions)
    return results, end


def _silent_loss(task, results, end):
    rows = {
        name: table.filter(pa.array(table.column("position").to_numpy() != 3))
        for name, table in results[0].rows.items()
    }
    _change(results, 0, positions=results[0].positions[:3], sizes=results[0].sizes[:3], rows=rows)
    return results, end


def _missing_though_decoded(task, results, end):
    return results, replace(end, missing=((0, 1),))


def _clip_count(task, results, end):
    return results, replace(end, clip_count=9)


def _one_embedding_less(task, results, end):
    rows = {**results[0].rows}
    rows[EMBEDDER.fingerprint] = rows[EMBEDDER.fingerprint].slice(1)
    _change(results, 0, rows=rows)
    return results, end


def _embedding_twice(task, results, end):
    rows = {**results[0].rows}
    vectors = rows[EMBEDDER.fingerprint]
    rows[EMBEDDER.fingerprint] = vectors.take(pa.array([0, 0, 1, 2]))
    _change(results, 0, rows=rows)
    return results, end


def _box_of_another_clip(task, results, end):
    rows = {**results[0].rows}
    boxes = rows[DETECTOR.fingerprint]
    positions = pa.array(boxes.column("position").to_numpy() + 4)
    rows[DETECTOR.fingerprint] = boxes.set_column(0, "position", positions)
    _change(results, 0, rows=rows)
    return results, end


def _no_rows(task, results, end):
    _change(results, 0, rows={})
    return results, end


def _column_gone(task, results, end):
    rows = {**results[0].rows}
    rows[DETECTOR.fingerprint] = rows[DETECTOR.fingerprint].drop_columns("score")
    _change(results, 0, rows=rows)
    return results, end


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_drop_clip, "clips"),
        (_double_clip, "clips"),
        (_foreign, "other shards"),
        (_other_attempt, "several attempts"),
        (_outside, "not within its own"),
        (_repeated_position, "repeat"),
        (_silent_loss, "neither decoded nor declared missing"),
        (_missing_though_decoded, "both decoded and declared missing"),
        (_clip_count, "counts 9 clips"),
        (_one_embedding_less, "embeddings for"),
        (_embedding_twice, "not one for each"),
        (_box_of_another_clip, "did not decode"),
        (_no_rows, "no rows"),
        (_column_gone, "score"),
    ],
)
def test_what_does_not_add_up_is_refused(spoil, message: str) -> None:
    task = make_tasks("v", 20)[0]
    results, end = spoil(task, *make_results(task))
    with pytest.raises(ValueError, match=message) as error:
        _remap(task, results, end)
    assert task.key in str(error.value)


def test_only_the_analyses_that_are_due() -> None:
    task = make_tasks("v", 20, analyses=(EMBEDDER,))[0]
    assert list(_remap(task, *make_results(task))) == [EMBEDDER.fingerprint]


def test_a_shard_without_a_single_decoded_frame() -> None:
    task = make_tasks("v", 6)[0]
    results, end = make_results(task, lost=frozenset(range(6)))
    results = [replace(result, rows={}) for result in results]
    tables = _remap(task, results, end)
    assert tables[FRAMES.fingerprint].column("status").to_pylist() == ["failed"] * 3
    assert tables[FRAMES.fingerprint].column("width").to_pylist() == [64] * 3
    assert tables[EMBEDDER.fingerprint].num_rows == tables[DETECTOR.fingerprint].num_rows == 0
