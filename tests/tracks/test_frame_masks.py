"""Masks of one frame, and boxes between the two pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco

from pipeline.tracks.frame_masks import FrameMask, Once, Scale, clipped, mask_of


def logits(seed: int) -> torch.Tensor:
    rough = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(rough, size=(16, 16), mode="bicubic")


@pytest.mark.parametrize("size", [(64, 64), (128, 72), (17, 50), (16, 16)])
def test_masks_are_enlarged_as_pictures_are(size: tuple[int, int]) -> None:
    width, height = size
    for seed in range(3):
        small = logits(seed)
        found = mask_of(small, 0.5, size)
        large = Image.fromarray(small[0, 0].numpy()).resize(size, Image.Resampling.BILINEAR)
        wanted = np.asarray(large)
        assert found is not None
        mask = coco.decode(found.rle)
        clear = np.abs(wanted) > 1e-5
        assert np.array_equal(mask[clear], wanted[clear] > 0)
        y, x = np.nonzero(mask)
        assert found.box == (x.min(), y.min(), x.max() + 1, y.max() + 1)
        assert found.rle["size"] == [height, width]


def test_a_mask_without_a_pixel_is_none() -> None:
    assert mask_of(torch.full((1, 1, 16, 16), -1024.0), 0.9, (64, 48)) is None
    assert mask_of(torch.zeros(1, 1, 16, 16), 0.9, (64, 48)) is None


def test_overlap_is_that_of_pixels() -> None:
    def of(first: int, last: int) -> FrameMask:
        mask = np.zeros((4, 10), np.uint8, order="F")
        mask[:, first:last] = 1
        return FrameMask(coco.encode(mask), (first, 0, last, 4), 1.0)

    assert of(0, 4).iou(of(2, 6)) == pytest.approx(8 / 24)
    assert of(0, 4).iou(of(4, 6)) == 0
    assert of(0, 4).iou(of(0, 4)) == 1


def test_from_a_picture_to_the_model_and_back() -> None:
    scale = Scale((128, 72), 64)
    # A mask in columns 10 to 19 and rows 9 to 17 of a picture, twice as wide as the model's.
    assert scale.to_model((10, 9, 20, 18)) == pytest.approx((5, 8, 9, 15))
    assert scale.to_picture((5, 8, 9, 15)) == pytest.approx((10, 9, 20, 18))


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        ((-5, -5, 10, 10), (0, 0, 10, 10)),
        ((60, 40, 90, 90), (60, 40, 64, 48)),
        ((64, 0, 90, 9), None),
        ((0, -9, 9, 0), None),
        ((float("nan"), 0, 9, 9), None),
        ((0, 0, float("inf"), 9), None),
        ((9, 0, 5, 9), None),
    ],
)
def test_boxes_are_cut_to_the_picture(
    box: tuple[float, float, float, float], inside: tuple[float, float, float, float] | None
) -> None:
    assert clipped(box, (64, 48)) == inside


def test_once() -> None:
    made: list[int] = []
    once = Once(lambda: made.append(1) or torch.zeros(1))  # type: ignore[func-returns-value]
    assert made == []
    assert once.value is once.value
    assert made == [1]
