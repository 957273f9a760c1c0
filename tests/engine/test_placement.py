"""Which node gets which actors."""

from __future__ import annotations

from collections import Counter

import pytest

from pipeline.config_file import parse_config
from pipeline.engine.placement import place, usable
from pipeline.engine.sizing import BASE_BYTES, PROCESS_BYTES, Node, size

GIB = 2**30


def node(name: str, cpus: float = 8, gpus: float = 0, *, head: bool = False, **more) -> Node:  # type: ignore[no-untyped-def]
    free = {"free_cpus": cpus, "free_gpus": gpus, "memory_bytes": 256 * GIB} | more
    return Node(name, head, cpus, gpus, **free)


def placed(nodes: list[Node], held=None, **engine: object) -> Counter:  # type: ignore[no-untyped-def]
    """(node, kind) -> actors that are to be made."""
    config = parse_config({"engine": engine}, where="test")
    sizing = size(config, nodes, grows=True)
    found = place(sizing, nodes, held or {}, config.engine.head)
    return Counter((node.node_id, need.kind) for need, node in found)


def test_the_only_node_is_used_though_it_is_the_head():
    assert placed([node("head", 4, head=True)]) == {("head", "worker"): 4}
    assert placed([node("head", 4, head=True)], head="leave") == {}


def test_the_head_is_left_alone_where_others_can_do_the_work():
    nodes = [node("head", 4, head=True), node("a", 3)]
    assert placed(nodes) == {("a", "worker"): 3}
    assert placed(nodes, head="use") == {("head", "worker"): 4, ("a", "worker"): 3}


def test_the_head_is_used_for_gpus_that_nobody_else_has():
    nodes = [node("head", 4, 2, head=True), node("a", 3)]
    assert placed(nodes) == {("head", "analyzer"): 2, ("a", "worker"): 3}


def test_decoders_are_where_cpus_are_and_analyzers_where_gpus_are():
    nodes = [node("head", 0, head=True), node("cpu", 6), node("gpu", 2, 4)]
    expected = {("gpu", "analyzer"): 4, ("gpu", "worker"): 2, ("cpu", "worker"): 6}
    assert placed(nodes) == expected
    assert placed(nodes, gpus_per_analyzer=0.3)["gpu", "analyzer"] == 13
    assert placed(nodes, gpus_per_analyzer=4.0)["gpu", "analyzer"] == 1


def test_what_others_hold_is_left_to_them():
    nodes = [node("a", 8, 2, free_cpus=3.5, free_gpus=1.0), node("b", 8, free_cpus=0.5)]
    assert placed(nodes) == {("a", "analyzer"): 1, ("a", "worker"): 3}


def test_counts_are_spread_and_bounds_are_kept():
    nodes = [node("a"), node("b")]
    assert placed(nodes, workers=4) == {("a", "worker"): 2, ("b", "worker"): 2}
    assert placed(nodes, max_workers=3).total() == 3
    assert placed(nodes, {("a", "worker"): 2}, max_workers=3) == {("b", "worker"): 1}
    assert placed(nodes, {("a", "worker"): 3}, max_workers=3) == {}


def test_a_count_is_kept_by_those_that_stay():
    nodes = [node("head", 4, head=True, free_cpus=2), node("a", 4)]
    assert placed(nodes, {("head", "worker"): 2}, workers=2) == {("a", "worker"): 2}


def test_analyzers_without_gpus_are_one_on_each_node():
    found = placed([node("a", 2), node("b", 2)], placement="split")
    assert (found["a", "analyzer"], found["b", "analyzer"]) == (1, 1)


def test_workers_fit_the_memory_of_their_node():
    memory = 2 * (BASE_BYTES + 3 * PROCESS_BYTES) * 8 // 7
    small = node("a", 64, memory_bytes=memory)
    assert placed([small, node("b", 2)]) == {("a", "worker"): 3, ("b", "worker"): 2}
    assert placed([small], {("a", "worker"): 2}) == {("a", "worker"): 1}


@pytest.mark.parametrize(("head", "names"), [("use", ["head", "a"]), ("leave", ["a"])])
def test_usable_nodes(head, names):
    nodes = [node("head", head=True), node("a"), node("no-cpus", 0)]
    (need,) = size(parse_config({}, where="test"), nodes).needs
    assert [one.node_id for one in usable(nodes, need, head)] == names
