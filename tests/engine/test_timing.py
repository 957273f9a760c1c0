"""What is large may take long; what is stuck is found all the same."""

from __future__ import annotations

from dataclasses import replace

from pipeline.config import EngineConfig
from pipeline.engine.timing import BASE_S, clip_limit_s, index_limit_s, shard_limit_s
from pipeline.records import Source
from tests.ledger.corpus import make_tasks

AUTO = EngineConfig()


def test_limits_grow_with_pixels():
    task = make_tasks("a")[0]
    large = replace(task, index=replace(task.index, width=1920, height=1080))
    assert BASE_S < clip_limit_s(AUTO, task) < clip_limit_s(AUTO, large)
    assert clip_limit_s(AUTO, large) < shard_limit_s(AUTO, large)


def test_a_shard_may_be_slow_in_all_its_clips_at_the_slowest_measured_speed():
    task = make_tasks("a")[0]
    task = replace(task, index=replace(task.index, width=1280, height=720))
    assert shard_limit_s(AUTO, task) > 4.0 * task.frame_count


def test_reading_a_large_file_may_take_long():
    small, large = (Source("/a", "1:1", size) for size in (10**6, 10**10))
    assert index_limit_s(AUTO, small) < 2 * BASE_S
    assert index_limit_s(AUTO, large) > 10**4


def test_what_is_configured_is_taken():
    config = EngineConfig(clip_timeout=3, shard_timeout=4, index_timeout=5)
    task = make_tasks("a")[0]
    source = Source("/a", "1:1", 10)
    assert (clip_limit_s(config, task), shard_limit_s(config, task)) == (3, 4)
    assert index_limit_s(config, source) == 5
