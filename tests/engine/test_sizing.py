"""Placement, counts and memory from what a machine has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config_file import parse_config
from pipeline.engine.placement import place
from pipeline.engine.sizing import (
    BASE_BYTES,
    MOST_TOGETHER,
    PROCESS_BYTES,
    TOGETHER_BYTES,
    Node,
    clip_bytes,
    clips_together,
    size,
)
from pipeline.errors import ConfigError

GIB = 2**30


def machine(cpus: float, gpus: float, gib: float) -> Node:
    return Node("here", True, cpus, gpus, int(gib * GIB), free_cpus=cpus, free_gpus=gpus)


def sized(cpus: float, gpus: float, gib: float, weights: int = 0, **engine: object):
    """Placement and device, and how many workers and analyzers a machine is given."""
    memory = engine.pop("memory", {})
    config = parse_config({"engine": engine, "memory": memory}, where="test")
    here = machine(cpus, gpus, gib)
    sizing = size(config, [here], weights)
    kinds = [need.kind for need, _ in place(sizing, [here], {}, "auto")]
    return sizing, kinds.count("worker"), kinds.count("analyzer")


def test_large_models_are_fewer():
    _, one, _ = sized(64, 0, 64, GIB)
    _, few, _ = sized(64, 0, 64)
    assert one < few < 64
    assert one * (PROCESS_BYTES + 2 * GIB) < 32 * GIB


def test_without_a_gpu_workers_are_fused_one_per_cpu():
    found, workers, analyzers = sized(8, 0, 64)
    assert (found.placement, found.device, workers, analyzers) == ("fused", "cpu", 8, 0)


def test_with_gpus_decoders_feed_an_analyzer_on_each():
    found, workers, analyzers = sized(16, 2, 128)
    assert (found.placement, found.device, workers, analyzers) == ("split", "cuda", 16, 2)


def test_half_a_gpu_per_analyzer():
    assert sized(16, 2, 128, gpus_per_analyzer=0.5)[2] == 4


def test_what_the_configuration_says_is_taken():
    found, workers, analyzers = sized(8, 0, 64, placement="split", workers=3, analyzers=2)
    assert (found.placement, workers, analyzers) == ("split", 3, 2)


def test_workers_fit_the_memory():
    limit = BASE_BYTES + 3 * PROCESS_BYTES + 256 * 2**20
    assert sized(64, 0, 512, memory={"limit": limit, "in_flight": 256 * 2**20})[1] == 3


def test_too_little_memory_is_refused_with_what_is_needed():
    with pytest.raises(ConfigError, match=r"memory\.limit = 0\.25 GiB.*at least"):
        sized(2, 0, 16, memory={"limit": "256MiB"})


def test_clip_bytes_count_windows_that_overlap():
    assert clip_bytes(10, 10, 32, 32) == 10 * 10 * 3 * 32
    assert clip_bytes(10, 10, 32, 16) == 2 * clip_bytes(10, 10, 32, 32)


@given(st.integers(1, 2**40), st.integers(0, 2**40))
def test_small_clips_go_together_as_far_as_there_is_room(one, room):
    count = clips_together(one, room)
    assert 1 <= count <= MOST_TOGETHER
    assert count == 1 or count * one <= min(room, TOGETHER_BYTES)
    more = (count + 1) * one
    assert count == MOST_TOGETHER or more > min(room, TOGETHER_BYTES)


def test_pixels_in_flight_leave_room_in_a_small_object_store():
    config = parse_config({"engine": {"placement": "split"}}, where="test")
    small = Node("a", False, 8, 0, 64 * GIB, store_bytes=GIB)
    sizing = size(config, [small])
    assert sizing.in_flight_bytes(small) == GIB - 128 * 2**20
    assert sizing.in_flight_bytes(machine(8, 0, 64)) == 4 * GIB


def test_gpus_that_are_still_to_come_are_planned_for_where_they_may():
    config = parse_config({"engine": {"max_analyzers": 4}}, where="test")
    assert size(config, [machine(8, 0, 64)], grows=True).device == "cuda"
    assert size(config, [machine(8, 0, 64)]).device == "cpu"
