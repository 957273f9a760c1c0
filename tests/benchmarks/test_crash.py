"""A driver that is killed costs at most the shards that were not whole."""

from __future__ import annotations

from benchmarks.crash import crash_at_half
from tests.videos import make


def test_21_a_killed_driver_costs_a_shard_for_each_decoder(ray_here, tmp_path):
    video = make(tmp_path / "a.mp4", 10_000, gop=30)
    cost = crash_at_half(video, tmp_path / "out", "fused")
    assert cost.frames == 10_000
    assert cost.seen >= 5_000
    assert cost.redone <= cost.allowed
    assert cost.unsaid <= cost.allowed
    assert 0 < cost.kept < cost.frames
