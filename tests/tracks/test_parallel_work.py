"""Shards of one video followed at once: whatever the order in which they come, one result."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.cause import Cause
from pipeline.records import NO_FILE
from pipeline.sources.plan import Grid, plan_video
from pipeline.tracks.edges import Edge, Edges, EdgeTrack
from pipeline.tracks.parallel_work import AHEAD, ParallelWork
from pipeline.tracks.shards import Opening, SavedState, ShardTracks
from tests.tracks.made import make_index
from tests.tracks.sam2_made import sam2_config
from tests.tracks.test_joins import rle

SHARDS = 6
CONFIG = sam2_config(parallel=True)
INDEX = make_index(SHARDS * 10)
GRID = Grid({"stride": 1}, length=10, step=10, shard_frames=10)
TASKS = plan_video(NO_FILE, INDEX, GRID)
COLUMNS = ("frame_index", "track_id")
ROWS = None
"""What tracks were made of is handed through."""


def apart(number: int) -> ShardTracks:
    """Two objects, the left one seen in all shards, the right one in those of odd number; the
    shard's own numbers of them change."""
    own = TASKS[number].frames_of(*_span(number)).tolist()
    ids = {"left": 1 + number % 2, "right": 2 - number % 2}
    there = ["left", "right"] if number % 2 else ["left"]

    def end(frames: list[int]) -> Edge:
        places = {"left": (0, 8), "right": (20, 28)}
        tracks = (
            EdgeTrack(ids[one], 0, {at: rle(*places[one]) for at in frames}, np.ones(2, np.float32))
            for one in sorted(there, key=lambda one: ids[one])
        )
        return Edge(tuple(frames), tuple(tracks))

    rows = sorted((frame, ids[one]) for frame in own for one in there)
    columns = {
        "frame_index": pa.array([frame for frame, _ in rows], pa.int64()),
        "track_id": pa.array([track for _, track in rows], pa.int32()),
    }
    head = end([own[0] - 2, own[0] - 1]) if number else Edge()
    return ShardTracks(columns, SavedState({}), Edges(head, end(own[-2:])))


def _span(number: int) -> tuple[int, int]:
    return TASKS[number].shard.own_start, TASKS[number].shard.own_stop


def work_of(saved: SavedState | None = None, begin: int = 0) -> ParallelWork:
    return ParallelWork(CONFIG, Opening(INDEX, saved=saved), TASKS[begin:], attempts=2)


def ids_of(came: ShardTracks) -> list[tuple[int, int]]:
    return list(zip(*(came.rows[name].to_pylist() for name in COLUMNS), strict=True))


def in_order() -> list[ShardTracks]:
    work, found = work_of(), []
    while due := work.next():
        for followed in work.came(due.task, apart(due.task.shard.shard_index), ROWS):
            found.append(followed.came)
    assert work.is_done
    return found


def test_an_object_keeps_its_id_and_one_that_is_gone_does_not():
    found = in_order()
    assert len(TASKS) == len(found) == SHARDS
    per_shard = [sorted({track for _, track in ids_of(came)}) for came in found]
    assert per_shard == [[1], [1, 2], [1], [1, 3], [1], [1, 4]]
    for came in found:
        rows = ids_of(came)
        assert rows == sorted(rows)
    joins = [came.state.facts["joins"] for came in found]
    assert joins == [[], *[[{"track_id": 1, "iou": 1.0, "similarity": 1.0}]] * 5]
    assert found[-1].state.tensors == b""


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_order_and_any_failure_give_the_same(data):
    """Several under way at once; each fails at most once, which is not too often."""
    whole = [(ids_of(came), came.state) for came in in_order()]
    work, under_way, failed, found = work_of(), [], set(), []
    while not work.is_done:
        if (due := work.next()) is not None:
            assert due.opening is not None
            assert due.opening.saved is None
            assert due.is_last == (due.task is TASKS[-1])
            under_way.append(due.task)
            if data.draw(st.booleans()):
                continue
        task = under_way.pop(data.draw(st.integers(0, len(under_way) - 1)))
        number = task.shard.shard_index
        fails = number not in failed and data.draw(st.booleans())
        failed |= {number} if fails else set()
        came = Cause("analyze", "a kernel") if fails else apart(number)
        found += list(work.came(task, came, ROWS))
    assert [one.task for one in found] == TASKS
    assert [(ids_of(one.came), one.came.state) for one in found] == whole
    assert work.next() is None


@settings(max_examples=10, deadline=None)
@given(st.integers(1, SHARDS - 1))
def test_another_run_goes_on_at_any_border(begin):
    whole = in_order()
    work = work_of(whole[begin - 1].state, begin)
    found = [
        one.came
        for number in reversed(range(begin, SHARDS))
        for one in work.came(TASKS[number], apart(number), ROWS)
    ]
    assert [ids_of(came) for came in found] == [ids_of(came) for came in whole[begin:]]
    assert [came.state for came in found] == [came.state for came in whole[begin:]]


def test_what_is_given_up_lands_up_to_there():
    """The shards before it come later than its failure; those behind it are of no use."""
    work = work_of()
    dues = [work.next() for _ in range(4)]
    assert [due.task for due in dues] == TASKS[:4]
    failure = Cause("analyze", "a kernel")
    assert list(work.came(TASKS[2], failure, ROWS)) == []
    assert [due.task.key for due in (work.next(), work.next())] == [TASKS[2].key, TASKS[4].key]
    assert list(work.came(TASKS[2], failure, ROWS)) == []
    assert list(work.came(TASKS[3], apart(3), ROWS)) == []
    assert len(list(work.came(TASKS[0], apart(0), ROWS))) == 1
    landed, given_up = work.came(TASKS[1], apart(1), ROWS)
    assert (landed.task, given_up.task, given_up.came.reason) == (TASKS[1], TASKS[2], "a kernel")
    assert work.strikes == 2
    assert work.left == tuple(TASKS[2:])
    work.give_up()
    assert work.is_done
    assert work.next() is None
    assert list(work.came(TASKS[4], apart(4), ROWS)) == []


def test_what_cannot_become_better_is_not_tried_again():
    work = work_of()
    due = work.next()
    (given_up,) = work.came(due.task, Cause("decode", "no such file", final=True), ROWS)
    assert given_up.task is TASKS[0]
    assert work.strikes == 1


def test_no_more_than_some_wait_for_a_slow_one():
    index = make_index((AHEAD + 5) * 10)
    tasks = plan_video(NO_FILE, index, GRID)
    work = ParallelWork(CONFIG, Opening(index), tasks, attempts=2)
    assert [work.next() is not None for _ in tasks] == [True] * AHEAD + [False] * 5
