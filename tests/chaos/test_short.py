"""A campaign of a few rounds, a kind each; `make chaos` plays 200."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.chaos.campaign import play_all
from tests.chaos.report import failed
from tests.chaos.schedule import seeds

KINDS = ("driver", "collector", "crash", "disk")
NODE = 1016
"""A round in which a node is lost at work, and nothing else happens."""


@pytest.fixture(scope="module")
def results():
    # Short: Ray's sockets lie in it, and their paths have a length limit.
    folder = Path(tempfile.mkdtemp(prefix="fl-chaos-", dir="/tmp"))
    chosen = [NODE, *(next(seeds(1, 1, kind)) for kind in KINDS)]
    yield play_all(chosen, folder, lanes=2)
    shutil.rmtree(folder, ignore_errors=True)


def test_what_is_disturbed_and_resumed_equals_what_was_not(results):
    assert not [failed(result) for result in results if result.wrong]
    assert {result.round.kind for result in results} == {*KINDS, "node"}
    assert any(result.hits for result in results)


def test_20_a_node_that_is_lost_costs_no_row(results):
    (lost,) = (result for result in results if result.round.seed == NODE)
    assert [kill.role for kill in lost.round.kills] == ["node"]
    assert lost.hits
    assert (lost.wrong, lost.codes[0]) == ([], 0)
