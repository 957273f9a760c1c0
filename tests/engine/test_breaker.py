"""Failures for one reason stop a run; those of the videos themselves do not."""

from __future__ import annotations

import pytest

from pipeline.engine.breaker import Breaker
from pipeline.engine.course import Report
from pipeline.errors import RunAborted
from pipeline.records import Failure


def failing(number: int, reason: str = "Permission denied", systemic: bool = True) -> Report:
    return Report([Failure(f"/v/{number}.mp4", "index", reason, systemic=systemic)])


def test_one_reason_for_video_after_video_stops_the_run():
    breaker = Breaker(3)
    assert [breaker.sort(failing(n)) for n in range(2)] == [[], []]
    with pytest.raises(RunAborted, match=r"3 videos in a row.*Permission denied"):
        breaker.sort(failing(2))


def test_a_success_shows_that_it_was_the_videos():
    breaker = Breaker(3)
    held = [failing(0), failing(1)]
    for report in held:
        assert breaker.sort(report) == []
    assert breaker.release() == held
    assert [breaker.sort(failing(n)) for n in (2, 3)] == [[], []]


def test_another_reason_begins_anew():
    breaker = Breaker(2)
    first = failing(0)
    assert breaker.sort(first) == []
    assert breaker.sort(failing(1, "Input/output error")) == [first]


def test_numbers_and_names_make_no_other_reason():
    breaker = Breaker(2)
    breaker.sort(failing(0, "model: RuntimeError: shape [1, 20] at 0x7f of /a/b.py"))
    with pytest.raises(RunAborted):
        breaker.sort(failing(1, "model: RuntimeError: shape [3, 40] at 0x9c of /c/d.py"))


def test_one_video_does_not_stop_a_run_however_often_it_fails():
    breaker = Breaker(2)
    assert [breaker.sort(failing(0)) for _ in range(5)] == [[]] * 5


def test_files_that_are_no_videos_say_nothing_of_the_next():
    breaker = Breaker(2)
    for number in range(10):
        report = failing(number, "not a video", systemic=False)
        assert breaker.sort(report) == [report]


def test_it_can_be_switched_off():
    breaker = Breaker(0)
    for number in range(100):
        assert breaker.sort(failing(number))
