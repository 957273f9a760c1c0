from __future__ import annotations

from collections import Counter

import pytest

from tests.chaos.schedule import VIDEOS, WHEEL, kind_of, round_of, seeds


def test_a_seed_is_a_round():
    assert round_of(1234) == round_of(1234)
    assert round_of(1234) != round_of(1234 + len(WHEEL))


def test_200_rounds_hold_ten_of_each_kind():
    for campaign in (0, 1, 7):
        kinds = Counter(map(kind_of, seeds(campaign, 200)))
        assert set(kinds) == set(WHEEL)
        assert min(kinds.values()) >= 10


@pytest.mark.parametrize("kind", sorted(set(WHEEL)))
def test_rounds_of_one_kind_have_its_faults(kind):
    rounds = [round_of(seed) for seed in seeds(3, 50, kind)]
    assert {one.kind for one in rounds} == {kind}
    for one in rounds:
        roles = [kill.role for kill in one.kills]
        if kind in ("crash", "hang"):
            assert one.mark is not None
            assert one.mark.how == kind
            assert one.mark.frame < VIDEOS[one.mark.video]
        elif kind in ("disk", "rpc"):
            assert one.disk or one.rpc
            assert not roles
        else:
            assert kind in roles
            assert len(roles) <= 3
            # Nothing can follow what ends the run.
            assert "driver" not in roles[:-1]
