from collections import Counter

from pipeline.demo.queries import (
    QUERIES,
    RELEVANT_VISIBILITY,
    TWO_CLASS_IDS,
    conjunctions,
    one_of,
    two_of,
    vocabulary_phrases,
)
from pipeline.demo.world import CLASSES, WorldObject

RED_CIRCLE = CLASSES.index("red circle")
BLUE_SQUARE = CLASSES.index("blue square")


def seen(class_id: int, visibility: float = 1.0) -> WorldObject:
    return WorldObject(0, class_id, CLASSES[class_id], (0, 0, 9, 9), visibility)


def test_thirty_different_queries() -> None:
    assert len({q.text for q in QUERIES}) == 30
    assert QUERIES[0].text == "a red circle"
    assert "two blue squares" in {q.text for q in QUERIES}
    assert {q.text for q in QUERIES} <= {p.text for p in vocabulary_phrases()}
    assert set(Counter(c // 3 for c in TWO_CLASS_IDS).values()) == {2}
    assert set(Counter(c % 3 for c in TWO_CLASS_IDS).values()) == {4}


def test_one_is_one_or_more_and_two_is_two_or_more() -> None:
    for count in range(4):
        objects = [seen(RED_CIRCLE)] * count + [seen(BLUE_SQUARE)]
        assert one_of(RED_CIRCLE).holds(objects) == (count >= 1)
        assert two_of(RED_CIRCLE).holds(objects) == (count >= 2)


def test_hidden_objects_do_not_count() -> None:
    barely = seen(RED_CIRCLE, RELEVANT_VISIBILITY - 0.01)
    enough = seen(RED_CIRCLE, RELEVANT_VISIBILITY)
    assert not one_of(RED_CIRCLE).holds([barely])
    assert one_of(RED_CIRCLE).holds([enough])
    assert not two_of(RED_CIRCLE).holds([barely, enough])


def test_general_phrases() -> None:
    phrases = {p.text: p for p in (*vocabulary_phrases(), *conjunctions())}
    objects = [seen(RED_CIRCLE), seen(BLUE_SQUARE)]
    true = {"a red shape", "a circle", "a blue square and a red circle", "red circle"}
    false = {"a green shape", "a triangle", "two circles", "two red shapes", "two red circles"}
    assert all(phrases[text].holds(objects) for text in true)
    assert not any(phrases[text].holds(objects) for text in false)
    assert phrases["two circles"].holds([seen(RED_CIRCLE), seen(CLASSES.index("cyan circle"))])
