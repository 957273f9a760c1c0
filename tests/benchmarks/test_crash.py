"""A driver that is killed costs at most the shards that were not whole."""

from __future__ import annotations

import pytest

from benchmarks.crash import crash_at_half
from tests.videos import make


@pytest.mark.parametrize("placement", ["fused", "split"])
def test_21_a_killed_driver_costs_a_shard_for_each_decoder(ray_here, tmp_path, placement):
    video = make(tmp_path / "a.mp4", 12_000, gop=30)
    cost = crash_at_half(video, tmp_path / "out", placement)
    assert cost.frames == 12_000
    assert cost.seen >= 6_000
    assert 0 <= cost.redone <= cost.allowed
