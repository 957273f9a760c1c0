"""A campaign of a few rounds, a kind each; `make chaos` plays 200."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.chaos.campaign import play_all
from tests.chaos.report import failed
from tests.chaos.schedule import seeds

KINDS = ("driver", "decoder", "collector", "crash", "disk")


@pytest.fixture
def short_folder():
    """Ray's sockets lie in it, and their paths have a length limit."""
    folder = Path(tempfile.mkdtemp(prefix="fl-chaos-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_what_is_disturbed_and_resumed_equals_what_was_not(short_folder):
    chosen = [next(seeds(1, 1, kind)) for kind in KINDS]
    results = play_all(chosen, short_folder, lanes=2)
    assert not [failed(result) for result in results if result.wrong]
    assert {result.round.kind for result in results} == set(KINDS)
    assert any(result.hits for result in results)
