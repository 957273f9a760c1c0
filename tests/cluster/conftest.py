"""One healthy cluster for all tests of this folder: a head and a node that joined, with a token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.heads import Head, head
from tests.videos import make


@pytest.fixture(scope="session")
def cluster() -> Iterator[Head]:
    with head() as made:
        made.join("--num-cpus=1")
        yield made


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("videos") / "good one.mp4", 40, gop=10)


@pytest.fixture(scope="session")
def bad(good: Path) -> Path:
    path = good.with_name("bad.mp4")
    path.write_text("not a video")
    return path
