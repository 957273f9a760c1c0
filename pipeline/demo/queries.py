"""Phrases about the demo world, and for which frames they hold.

An object counts when at least `RELEVANT_VISIBILITY` of it can be seen. "two red circles" holds
with two or more of them, "a red circle" with one or more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from pipeline.demo.world import CLASSES, COLOURS, SHAPES, WorldObject

RELEVANT_VISIBILITY = 0.4
"""The least visible share of an object that a phrase may be about."""


@dataclass(frozen=True)
class Phrase:
    """A text that holds for a frame in which every one of its needs is met."""

    text: str
    needs: tuple[tuple[frozenset[int], int], ...]
    """(class ids, least number of objects of any of these classes)."""

    def holds(
        self, objects: Iterable[WorldObject], *, visibility: float = RELEVANT_VISIBILITY
    ) -> bool:
        """Whether the phrase is true of a frame with these objects."""
        seen = [o.class_id for o in objects if o.visibility >= visibility]
        return all(sum(c in classes for c in seen) >= count for classes, count in self.needs)


def one_of(class_id: int) -> Phrase:
    """ "a red circle"."""
    return Phrase(f"a {CLASSES[class_id]}", ((frozenset({class_id}), 1),))


def two_of(class_id: int) -> Phrase:
    """ "two red circles"."""
    return Phrase(f"two {CLASSES[class_id]}s", ((frozenset({class_id}), 2),))


TWO_CLASS_IDS = tuple(
    colour * len(SHAPES) + shape
    for colour in range(len(COLOURS))
    for shape in range(len(SHAPES))
    if shape != colour % len(SHAPES)
)
"""The twelve classes, two of each colour and four of each shape, that are searched in pairs."""

QUERIES = (
    *(one_of(class_id) for class_id in range(len(CLASSES))),
    *(two_of(class_id) for class_id in TWO_CLASS_IDS),
)
"""The 30 queries by which search in the demo is measured."""


def _of_colour(colour: str) -> frozenset[int]:
    return frozenset(i for i, name in enumerate(CLASSES) if name.startswith(colour + " "))


def _of_shape(shape: str) -> frozenset[int]:
    return frozenset(i for i, name in enumerate(CLASSES) if name.endswith(" " + shape))


def vocabulary_phrases() -> tuple[Phrase, ...]:
    """All phrases that the demo's text model learns in every step, the queries among them."""
    ids = range(len(CLASSES))
    photos = (Phrase("a photo of " + p.text, p.needs) for p in (one_of(i) for i in ids))
    bare = (Phrase(CLASSES[i], one_of(i).needs) for i in ids)
    colours = (Phrase(f"a {c} shape", ((_of_colour(c), 1),)) for c in COLOURS)
    shapes = (Phrase(f"a {s}", ((_of_shape(s), 1),)) for s in SHAPES)
    pairs = (Phrase(f"two {s}s", ((_of_shape(s), 2),)) for s in SHAPES)
    coloured_pairs = (Phrase(f"two {c} shapes", ((_of_colour(c), 2),)) for c in COLOURS)
    return (
        *(one_of(i) for i in ids),
        *(two_of(i) for i in ids),
        *photos,
        *bare,
        *colours,
        *shapes,
        *pairs,
        *coloured_pairs,
    )


def conjunctions() -> tuple[Phrase, ...]:
    """ "a red circle and a blue square", for every two classes, in both orders."""
    both = []
    for first, second in combinations(range(len(CLASSES)), 2):
        needs = one_of(first).needs + one_of(second).needs
        for a, b in ((first, second), (second, first)):
            both.append(Phrase(f"a {CLASSES[a]} and a {CLASSES[b]}", needs))
    return tuple(both)
