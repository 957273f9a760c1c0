"""Which tracks of two shards are one, by hand and against every way to pair them."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from pipeline.tracks.edges import Edge, EdgeTrack, load_edge, save_edge
from pipeline.tracks.joins import Join, join, renumbered, similarity, tube_iou
from tests.tracks.sam2_made import sam2_config

SIZE = (20, 30)
"""Height and width."""
ALIKE = np.array([1.0, 0.0], np.float32)
UNLIKE = np.array([0.0, 1.0], np.float32)


def rle(x1: int, x2: int, size: tuple[int, int] = SIZE) -> dict[str, object]:
    """Columns `x1` to `x2` of a picture, without the last."""
    pixels = np.zeros(size, np.uint8)
    pixels[:, x1:x2] = 1
    return dict(coco.encode(np.asfortranarray(pixels)))


def seen(
    number: int,
    spans: dict[int, tuple[int, int]],
    class_id: int = 0,
    pointer: np.ndarray = ALIKE,
) -> EdgeTrack:
    return EdgeTrack(number, class_id, {at: rle(*span) for at, span in spans.items()}, pointer)


def edge(*tracks: EdgeTrack, frames: tuple[int, ...] = (7, 8)) -> Edge:
    return Edge(frames, tracks)


def test_tube_iou_is_of_all_pixels_of_all_frames():
    a = seen(1, {7: (0, 10), 8: (0, 10)})
    b = seen(2, {7: (5, 10), 9: (0, 10)})
    height = SIZE[0]
    # 5 columns in common; 10 in frame 7, 10 in frame 8 of which b has nothing.
    assert tube_iou(a, b, {7, 8}) == (5 * height) / (20 * height)
    assert tube_iou(a, b, {7}) == 0.5
    assert tube_iou(a, b, {11}) == 0.0


def test_pictures_of_two_sizes_share_nothing():
    a = EdgeTrack(1, 0, {7: rle(0, 10)}, ALIKE)
    b = EdgeTrack(2, 0, {7: rle(0, 10, (10, 15))}, ALIKE)
    assert tube_iou(a, b, {7}) == 0.0


def test_similarity_is_the_cosine():
    assert similarity(ALIKE, ALIKE * 3) == pytest.approx(1.0)
    assert similarity(ALIKE, UNLIKE) == 0.0
    assert similarity(ALIKE, -ALIKE) == pytest.approx(-1.0)
    assert similarity(ALIKE, ALIKE * 0) == 0.0


def test_frames_that_one_side_has_not_looked_at_do_not_count():
    before = edge(seen(4, {6: (0, 10), 7: (0, 10)}), frames=(6, 7))
    behind = edge(seen(1, {7: (0, 10), 8: (20, 30)}), frames=(7, 8))
    assert join(before, behind, sam2_config(match_iou=0.9)) == [Join(4, 1, 1.0, 1.0)]


def test_tracks_that_overlap_too_little_are_two():
    before, behind = edge(seen(4, {7: (0, 10)})), edge(seen(1, {7: (7, 17)}))
    assert join(before, behind, sam2_config(match_iou=0.2)) == []
    (one,) = join(before, behind, sam2_config(match_iou=0.17))
    assert (one.before, one.behind, one.iou) == (4, 1, pytest.approx(3 / 17))


def test_classes_are_kept_to_where_they_are_to_be():
    before = edge(seen(4, {7: (0, 10)}, class_id=1))
    behind = edge(seen(1, {7: (0, 10)}, class_id=2))
    assert join(before, behind, sam2_config(class_aware=True)) == []
    assert len(join(before, behind, sam2_config(class_aware=False))) == 1


def test_of_two_that_overlap_alike_memory_decides():
    """Two objects that cross at the border."""
    before = edge(seen(4, {7: (0, 10)}), seen(5, {7: (0, 10)}, pointer=UNLIKE))
    behind = edge(seen(1, {7: (0, 10)}, pointer=UNLIKE), seen(2, {7: (0, 10)}))
    found = join(before, behind, sam2_config())
    assert [(one.before, one.behind) for one in found] == [(5, 1), (4, 2)]


def test_all_tracks_together_agree_most():
    """The pair that overlaps best is given up for two that overlap well."""
    before = edge(seen(4, {7: (0, 10)}), seen(5, {7: (2, 12)}))
    behind = edge(seen(1, {7: (1, 11)}), seen(2, {7: (6, 16)}))
    found = join(before, behind, sam2_config(match_iou=0.3))
    assert [(one.before, one.behind) for one in found] == [(4, 1), (5, 2)]


def test_an_end_without_tracks_joins_nothing():
    assert join(Edge(), edge(seen(1, {7: (0, 9)})), sam2_config()) == []
    assert join(edge(seen(1, {7: (0, 9)})), Edge(), sam2_config()) == []


spans = st.tuples(st.integers(0, 20), st.integers(1, 9)).map(lambda at: (at[0], at[0] + at[1]))
tracks = st.lists(
    st.tuples(spans, st.integers(0, 1), st.sampled_from([ALIKE, UNLIKE])), max_size=4
).map(
    lambda rows: [
        seen(n, {7: span}, class_id, pointer) for n, (span, class_id, pointer) in enumerate(rows, 1)
    ]
)


@settings(max_examples=60, deadline=None)
@given(tracks, tracks, st.randoms(use_true_random=False))
def test_no_other_way_to_pair_them_agrees_more(a, b, random):
    config = sam2_config(match_iou=0.2)
    found = join(edge(*a), edge(*b), config)
    assert len({one.before for one in found}) == len({one.behind for one in found}) == len(found)

    def agreement(one: EdgeTrack, other: EdgeTrack) -> float:
        iou = tube_iou(one, other, {7})
        if iou < 0.2 or one.class_id != other.class_id:
            return 0.0
        return iou + (1 + similarity(one.pointer, other.pointer)) / 2

    few, many = sorted((a, b), key=len)
    best = max(sum(map(agreement, few, chosen)) for chosen in permutations(many, len(few)))
    assert sum(one.iou + (1 + one.similarity) / 2 for one in found) == pytest.approx(best)
    # Whatever the order in which they are given, as much comes of it.
    random.shuffle(a)
    random.shuffle(b)
    again = join(edge(*a), edge(*b), config)
    assert sum(one.iou for one in again) + sum(one.similarity for one in again) / 2 + len(
        again
    ) / 2 == pytest.approx(best)


def test_new_ids_follow_the_last_in_the_order_of_numbers():
    joins = [Join(3, 2, 0.9, 0.9), Join(1, 5, 0.8, 0.9)]
    assert renumbered({5, 1, 2, 4}, joins, 7) == ({1: 8, 2: 3, 4: 9, 5: 1}, 9)
    assert renumbered(set(), [], 7) == ({}, 7)


def test_an_edge_comes_back_as_it_was_saved():
    kept = edge(seen(4, {7: (0, 10), 8: (1, 3)}), seen(9, {8: (4, 20)}, 2, UNLIKE))
    back = load_edge(*save_edge(kept))
    assert back.frames == kept.frames
    assert [(one.track_id, one.class_id) for one in back.tracks] == [(4, 0), (9, 2)]
    for one, other in zip(kept.tracks, back.tracks, strict=True):
        assert {at: (m["counts"], list(m["size"])) for at, m in one.masks.items()} == {
            at: (m["counts"], m["size"]) for at, m in other.masks.items()
        }
        assert one.pointer.tobytes() == other.pointer.tobytes()
    facts, tensors = save_edge(edge(frames=(1, 2)))
    assert (tensors, load_edge(facts, tensors)) == (b"", Edge((1, 2)))
