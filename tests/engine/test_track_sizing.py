"""How many actors follow tracks, by what the cluster has."""

from __future__ import annotations

import pytest

from pipeline.config_file import parse_config
from pipeline.engine.job import Job
from pipeline.engine.sizing import Need, Node
from pipeline.engine.track_sizing import TrackSizing, most_of, track_sizing
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


def test_for_boxes_one_for_each_cpu_of_those_that_work():
    def boxes(*cpus: float, **engine: object) -> TrackSizing:
        config = parse_config({"engine": engine}, where="test")
        there = [Node(str(n), n == 0, count, 1.0, 2**34) for n, count in enumerate(cpus)]
        return track_sizing(Job("run", config, "/out", ()), there, grows=True)

    assert boxes(2.0) == TrackSizing(2, "cpu", cpus=1.0, gpus=0.0, threads=1)
    assert boxes(2.0, 4.0, 8.5).most == 12
    assert boxes(2.0, 4.0, 8.5, head="use").most == 14
    assert boxes(2.0, 4.0, workers=3).most == 3
    assert boxes(2.0, 4.0, workers=64).most == 4
    assert boxes(2.0, 4.0, max_workers=2).most == 2
    assert boxes(0.5).most == 1
