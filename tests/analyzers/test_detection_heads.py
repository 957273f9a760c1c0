from __future__ import annotations

import pytest
import torch

from pipeline.analyzers.detection_heads import DETECTION_HEADS

# Two queries: the left half of the picture, and all of it.
BOXES = torch.tensor([[[0.25, 0.5, 0.5, 1.0], [0.5, 0.5, 1.0, 1.0]]])
LEFT, WHOLE = [0.0, 0.0, 0.5, 1.0], [0.0, 0.0, 1.0, 1.0]


def test_softmax_has_one_class_a_query_and_a_last_one_for_nothing() -> None:
    # Class 0 against class 1 against nothing.
    logits = torch.tensor([[[1.0, 0.0, 0.5], [0.0, 2.0, 9.0]]])
    scores, classes, boxes = DETECTION_HEADS["detr"].best(logits, BOXES)
    assert classes.tolist() == [[0, 1]]
    assert boxes[0].tolist() == [LEFT, WHOLE]
    assert scores[0].tolist() == pytest.approx(
        [logits[0, 0].softmax(0)[0].item(), logits[0, 1].softmax(0)[1].item()]
    )


def test_sigmoid_may_take_two_classes_of_one_query() -> None:
    logits = torch.tensor([[[-3.0, -4.0, -5.0], [1.0, 3.0, 2.0]]])
    scores, classes, boxes = DETECTION_HEADS["rt_detr_v2"].best(logits, BOXES)
    assert classes.tolist() == [[1, 2]]  # As many as queries.
    assert boxes[0].tolist() == [WHOLE, WHOLE]
    assert scores[0].tolist() == pytest.approx(torch.tensor([3.0, 2.0]).sigmoid().tolist())


def test_a_hundred_at_most_where_the_family_says_so() -> None:
    logits = torch.randn(2, 300, 4, generator=torch.Generator().manual_seed(0))
    boxes = torch.rand(2, 300, 4)
    assert DETECTION_HEADS["deformable_detr"].best(logits, boxes)[0].shape == (2, 100)
    assert DETECTION_HEADS["rt_detr"].best(logits, boxes)[0].shape == (2, 300)
    few = DETECTION_HEADS["deformable_detr"].best(logits[:, :5], boxes[:, :5])
    assert few[0].shape == (2, 20)
