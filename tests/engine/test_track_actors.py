"""How many actors follow tracks, by what the cluster has."""

from __future__ import annotations

import pytest

from pipeline.config_file import parse_config
from pipeline.engine.job import Job
from pipeline.engine.sizing import Need, Node
from pipeline.engine.track_actors import most_of
from pipeline.errors import ConfigError


def most(gpus_of_nodes: list[float], *, grows: bool = False, need: float = 1.0, **engine: object):  # type: ignore[no-untyped-def]
    config = parse_config({"engine": engine}, where="test")
    there = [Node(str(n), n == 0, 4.0, gpus, 2**34) for n, gpus in enumerate(gpus_of_nodes)]
    one = Need("analyzer", cpus=0.0, gpus=need, nbytes=0, count=None)
    return most_of(Job("run", config, "/out", ()), there, one, grows)


def test_one_for_each_gpu_and_never_more_than_there_is_room_for():
    assert most([4.0, 2.0]) == 6
    assert most([4.0, 2.0], analyzers=8) == 6
    assert most([4.0, 2.0], analyzers=3) == 3
    assert most([3.0, 3.0], need=2.0) == 2
    assert most([1.0], need=0.25) == 4


def test_without_gpus_one_for_each_node_or_as_many_as_are_asked_for():
    assert most([0.0, 0.0, 0.0], need=0.0) == 3
    assert most([0.0], need=0.0, analyzers=2) == 2


def test_gpus_that_are_not_there_are_waited_for_only_where_they_may_come():
    assert most([0.0], grows=True, max_analyzers=5) == 5
    with pytest.raises(ConfigError, match="no node has 1 GPUs to follow tracks with"):
        most([0.0])
