"""What the tests of SAM 2 share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from pipeline.tracks.sam2_model import LoadedSam2
from tests.tracks.sam2_made import random_sam2


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedSam2]:
    """A tiny SAM 2 of random weights. Its operations are too small for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield random_sam2(tmp_path_factory.mktemp("sam2"))
    torch.set_num_threads(threads)
