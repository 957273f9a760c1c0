"""Failures by reason, however many there are."""

from __future__ import annotations

from pipeline.engine.reasons import MOST, Reasons
from pipeline.records import Failure


def test_those_that_differ_by_numbers_and_names_are_one_kind():
    reasons = Reasons()
    for number in range(5):
        reasons.count(Failure(f"/{number}", "decode", f"frame {number} of '/v/{number}.mp4'"))
    reasons.count(Failure("/x", "index", "no video stream"))
    first, second = reasons.top(10)
    assert (first.failures, first.uri, first.reason) == (5, "/0", "frame 0 of '/v/0.mp4'")
    assert (second.failures, second.stage) == (1, "index")
    assert reasons.top(1) == [first]


def test_kinds_are_bounded():
    reasons = Reasons()
    for number in range(2 * MOST):
        reasons.count(Failure("/a", "index", "x" * (number + 1)))
    assert len(reasons.top(10**6)) == MOST + 1
    assert reasons.top(1)[0].failures == MOST
