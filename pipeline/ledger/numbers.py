"""Which of the numbers 1, 2, 3, ... have been seen, in few bytes though they come out of order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class Numbers:
    """A set of whole numbers of which all up to some are there, and a few beyond."""

    def __init__(self, up_to: int = 0, beyond: Iterable[int] = ()) -> None:
        self._up_to = up_to
        self._beyond = set(beyond)

    def add(self, number: int | None) -> bool:
        """Whether `number` is new; None is not counted."""
        if number is None or number <= self._up_to or number in self._beyond:
            return False
        self._beyond.add(number)
        while self._up_to + 1 in self._beyond:
            self._up_to += 1
            self._beyond.remove(self._up_to)
        return True

    def as_facts(self) -> dict[str, Any]:
        """For JSON; `of_facts` brings it back."""
        return {"up_to": self._up_to, "beyond": sorted(self._beyond)}

    @classmethod
    def of_facts(cls, facts: dict[str, Any]) -> Numbers:
        return cls(facts["up_to"], facts["beyond"])
