from __future__ import annotations

from pathlib import Path

import pytest

from tests.results.reading import made_up, over_videos


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> str:
    """An output over two real videos, with masks and keypoints."""
    return over_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="session")
def rows(tmp_path_factory) -> str:
    """An output of made-up rows, one frame of which could not be decoded; no videos."""
    return made_up(tmp_path_factory.mktemp("rows") / "o ü")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "made" / "here"
