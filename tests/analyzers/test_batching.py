"""Batches: all frames once and in order, sizes that follow speed and memory."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.analyzers.batching import Batcher, is_out_of_memory, start_size
from pipeline.errors import VideoError


def frames(batch: slice) -> list[int]:
    return list(range(batch.start, batch.stop))


@given(st.lists(st.integers(0, 90), max_size=8), st.integers(1, 40))
def test_every_frame_once_whatever_fits(counts, fits):
    """A device that holds `fits` frames, on clips of any length."""

    def work(batch: slice) -> list[int]:
        if batch.stop - batch.start > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return frames(batch)

    batcher = Batcher("auto", "detector")
    for count in counts:
        parts = batcher.run(count, 720, 1280, work)
        assert [i for part in parts for i in part] == list(range(count))


def test_a_configured_size_is_kept():
    batcher = Batcher(5, "detector")
    sizes = [len(part) for _ in range(4) for part in batcher.run(12, 10, 10, frames)]
    assert sizes == [5, 5, 2] * 4


def test_auto_starts_from_the_resolution():
    shapes = {(320, 180): 8, (1280, 720): 8, (1920, 1080): 4, (3840, 2160): 2}
    assert {shape: start_size(shape[0] * shape[1]) for shape in shapes} == shapes


@pytest.mark.parametrize("best", [8, 32])
def test_auto_grows_while_that_is_faster(best):
    """A device that takes as long for any batch up to `best` frames, and its share above; by a
    clock of its own, since that of a busy machine would tell of the machine."""
    spent = [0.0]

    def work(batch: slice) -> None:
        spent[0] += 0.004 * max(1.0, (batch.stop - batch.start) / best)

    batcher = Batcher("auto", "detector", clock=lambda: spent[0])
    for _ in range(6):
        batcher.run(256, 720, 1280, work)
    assert batcher.size(720, 1280) == best
    # Another shape is learned anew.
    assert batcher.size(1080, 1920) == 4


def test_out_of_memory_halves_is_remembered_and_told():
    tried = []

    def work(batch: slice) -> list[int]:
        tried.append(batch.stop - batch.start)
        if tried[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return frames(batch)

    batcher = Batcher(16, "embedder")
    batcher.run(16, 720, 1280, work)
    assert tried == [16, 8, 4, *[2] * 8]
    assert len(batcher.notes) == 3
    assert batcher.notes[-1] == (
        "embedder: out of memory with 4 frames of 1280x720 at once, went on with 2"
    )
    tried.clear()
    batcher.run(4, 720, 1280, work)
    assert tried == [2, 2]


def test_a_single_frame_that_does_not_fit_is_an_error_with_the_reason():
    def work(batch: slice) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 90 GiB")

    with pytest.raises(VideoError, match=r"1 frames of 1280x720 at once: .* 90 GiB") as caught:
        Batcher(4, "detector").run(4, 720, 1280, work)
    assert caught.value.stage == "analyze"


def test_other_errors_pass_through():
    def work(batch: slice) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        Batcher(4, "detector").run(4, 720, 1280, work)


def test_the_cpu_allocators_error_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("gib", "frames"), [(None, 8), (8, 8), (15, 8), (16, 16), (141, 32), (5, 4), (0.5, 1)]
)
def test_the_first_batch_goes_by_free_memory(gib: float | None, frames: int) -> None:
    free = None if gib is None else int(gib * 2**30)
    assert start_size(1280 * 720, free) == frames
