"""What the tests of SAM 2 share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline.ledger.verify import verify
from pipeline.tracks.sam2_model import LoadedSam2
from tests.tracks.made import rows, track
from tests.tracks.sam2_made import random_sam2
from tests.tracks.sam2_videos import Made, assert_tidy, config, detected, make, shorten_shards


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedSam2]:
    """A tiny SAM 2 of random weights. Its operations are too small for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield random_sam2(tmp_path_factory.mktemp("sam2"))
    torch.set_num_threads(threads)


@pytest.fixture(params=["disk", "store"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An output that nobody has used, in a folder and on a store."""
    if request.param == "disk":
        return str(tmp_path / "out")
    request.getfixturevalue("store")
    return "s3://tables/cut"


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of such a model."""
    folder = tmp_path_factory.mktemp("model")
    random_sam2(folder)
    return folder


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("videos") / "a.mp4", 3)


@pytest.fixture
def short_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several shards in a video that is made in a moment."""
    shorten_shards(monkeypatch)


@pytest.fixture(scope="session")
def whole(
    tmp_path_factory: pytest.TempPathFactory, model: Path, video: Made
) -> list[dict[str, object]]:
    """The rows of a pass that nothing cut."""
    with pytest.MonkeyPatch.context() as patch:
        shorten_shards(patch)
        output = tmp_path_factory.mktemp("whole") / "out"
        job = detected(output, config(model), video)
        stats = track(job, video.index)
    assert (stats.tracked, stats.rows["tracks"]) == (1, len(rows(job)))
    assert verify(job.output).sound
    assert_tidy(output)
    return rows(job)
