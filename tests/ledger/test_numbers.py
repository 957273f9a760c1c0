"""A set of numbers that come nearly in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.ledger.numbers import Numbers


@given(st.lists(st.integers(1, 30)), st.integers(0, 40))
def test_each_number_is_new_once(numbers: list[int], cut: int):
    seen: set[int] = set()
    found = Numbers()
    for at, number in enumerate(numbers):
        if at == cut:
            found = Numbers.of_facts(found.as_facts())
        assert found.add(number) is (number not in seen)
        seen.add(number)


def test_what_is_no_number_is_never_new():
    assert not Numbers().add(None)


def test_numbers_in_order_take_no_room():
    found = Numbers()
    for number in range(1, 1000):
        found.add(number)
    assert found.as_facts() == {"up_to": 999, "beyond": []}
