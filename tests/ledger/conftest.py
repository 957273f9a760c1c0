from __future__ import annotations

from pathlib import Path

import pytest

from tests.ledger.cleaning import many_commits
from tests.ledger.corpus import open_writer, write_video


@pytest.fixture
def output(tmp_path: Path) -> str:
    """An output with three videos, one of them with a frame that could not be decoded."""
    path = tmp_path / "out put ü"
    with open_writer(path) as writer:
        write_video(writer, "a")
        write_video(writer, "b", frames=33)
        write_video(writer, "c", frames=20, lost=frozenset({6}))
    return str(path)


@pytest.fixture
def busy(tmp_path: Path) -> str:
    """An output of four videos, each committed by a run of its own."""
    output = str(tmp_path / "o ü")
    many_commits(output)
    return output
