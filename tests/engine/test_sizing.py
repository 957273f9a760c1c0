"""Placement, counts and memory from what a machine has."""

import pytest

from pipeline.config import parse_config
from pipeline.engine.sizing import BASE_BYTES, PROCESS_BYTES, Resources, clip_bytes, size
from pipeline.errors import ConfigError

GIB = 2**30


def sized(cpus: float, gpus: float, gib: float, **engine: object):
    memory = engine.pop("memory", {})
    config = parse_config({"engine": engine, "memory": memory}, where="test")
    return size(config, Resources(cpus, gpus, int(gib * GIB)))


def test_large_models_are_fewer():
    config = parse_config({}, where="test")
    one = size(config, Resources(64, 0, 64 * GIB), GIB)
    few = size(config, Resources(64, 0, 64 * GIB))
    assert one.workers < few.workers < 64
    assert one.workers * (PROCESS_BYTES + 2 * GIB) < 32 * GIB


def test_without_a_gpu_workers_are_fused_one_per_cpu():
    found = sized(8, 0, 64)
    assert (found.placement, found.device, found.workers, found.analyzers) == ("fused", "cpu", 8, 0)
    assert found.threads == 1


def test_with_gpus_decoders_feed_an_analyzer_on_each():
    found = sized(16, 2, 128)
    assert (found.placement, found.device, found.analyzers) == ("split", "cuda", 2)
    assert found.workers == 16


def test_half_a_gpu_per_analyzer():
    assert sized(16, 2, 128, gpus_per_analyzer=0.5).analyzers == 4


def test_what_the_configuration_says_is_taken():
    found = sized(8, 0, 64, placement="split", workers=3, analyzers=2)
    assert (found.placement, found.workers, found.analyzers) == ("split", 3, 2)


def test_workers_fit_the_memory():
    limit = BASE_BYTES + 3 * PROCESS_BYTES + 256 * 2**20
    found = sized(64, 0, 512, memory={"limit": limit, "in_flight": 256 * 2**20})
    assert found.workers == 3


def test_too_little_memory_is_refused_with_what_is_needed():
    with pytest.raises(ConfigError, match=r"memory\.limit = 0\.25 GiB.*at least"):
        sized(2, 0, 16, memory={"limit": "256MiB"})


def test_clip_bytes_count_windows_that_overlap():
    assert clip_bytes(10, 10, 32, 32) == 10 * 10 * 3 * 32
    assert clip_bytes(10, 10, 32, 16) == 2 * clip_bytes(10, 10, 32, 32)
