"""What a worker is given, and who is to blame when it dies."""

from __future__ import annotations

from pipeline.engine.lanes import QUEUED, Indexing, Lane, Stream, Work
from pipeline.engine.trials import Trials


def stream(lane: Lane, work: Work) -> Stream:
    item = Stream(work, lane, generator=None, together=1, item_bytes=10, ahead=3)
    lane.queue.append(item)
    return item


def test_a_lane_takes_one_to_work_on_and_one_to_go_on_with():
    lane = Lane("worker", present=True)
    for _ in range(QUEUED):
        assert lane.takes()
        stream(lane, Work(None, Trials(3)))
    assert not lane.takes()


def test_what_failed_before_is_worked_alone():
    lane = Lane("worker", present=True)
    assert lane.takes(suspect=True)
    other = stream(lane, Work(None, Trials(3)))
    assert not lane.takes(suspect=True)
    lane.leave(other)
    for suspect in (
        Stream(Work(None, Trials(3, failed=1)), lane, None, 1, item_bytes=10, ahead=3),
        Indexing(None, lane, strikes=1),
    ):
        lane.queue.append(suspect)
        assert not lane.takes()
        lane.leave(suspect)


def test_the_first_in_the_queue_is_worked_on():
    lane = Lane("worker", present=True)
    one, two = stream(lane, Work(None, Trials(3))), Indexing(None, lane)
    lane.queue.append(two)
    assert lane.is_first(one)
    assert not lane.is_first(two)
    lane.leave(one)
    lane.leave(one)
    assert lane.is_first(two)


def test_held_bytes_count_what_is_made_ahead_and_what_analyzers_hold():
    item = stream(Lane("worker", present=True), Work(None, Trials(3)))
    assert item.held_bytes == 40
    item.in_flight = 2
    assert item.held_bytes == 50
    item.done = True
    assert item.held_bytes == 20
