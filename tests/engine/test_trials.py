"""Which clip is to blame, and when a shard is given up."""

from __future__ import annotations

import pytest

from pipeline.engine.trials import MOST_QUARANTINED, Trials


def test_a_clip_that_always_fails_is_quarantined_after_its_tries():
    trials = Trials(3)
    assert [trials.strike(clip) for clip in (None, 5, 5)] == ["again", "again", "quarantine"]
    assert trials.attempts_at(5) == 3


def test_another_clip_is_tried_as_often():
    trials = Trials(3)
    for clip in (None, 5, 5):
        trials.strike(clip)
    assert [trials.strike(clip) for clip in (7, 7)] == ["again", "quarantine"]


def test_deaths_at_different_clips_quarantine_none():
    trials = Trials(3)
    assert {trials.strike(clip) for clip in (None, 1, 2, 3, 4)} == {"again"}


@pytest.mark.parametrize("allowed", [1, 2, 3])
def test_a_shard_that_fails_nobody_knows_where_is_given_up(allowed):
    trials = Trials(allowed)
    verdicts = [trials.strike(None) for _ in range(allowed)]
    assert verdicts == ["again"] * (allowed - 1) + ["give up"]


def test_where_clip_after_clip_fails_the_shard_is_given_up():
    trials = Trials(1)
    verdicts = [trials.strike(clip) for clip in range(MOST_QUARANTINED + 1)]
    assert verdicts == ["quarantine"] * MOST_QUARANTINED + ["give up"]
