"""Reasons of failures, counted: those that differ only from video to video are one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pipeline.records import Failure

MOST = 1000
"""Kinds that are told apart; what comes after is counted as one."""


@dataclass
class Reason:
    """Failures of one kind."""

    stage: str
    reason: str
    """As the first of them said it."""
    uri: str
    """Whose that was."""
    failures: int = 0


@dataclass
class Reasons:
    """How often what has failed; bounded, however many failures there are."""

    _by_shape: dict[str, Reason] = field(default_factory=dict)

    def count(self, failure: Failure) -> None:
        shape = shape_of(f"{failure.stage}: {failure.reason}")
        if shape not in self._by_shape and len(self._by_shape) >= MOST:
            shape = ""
        first = Reason(failure.stage, failure.reason, failure.uri)
        self._by_shape.setdefault(shape, first).failures += 1

    def top(self, count: int) -> list[Reason]:
        """The most frequent kinds, the most frequent first."""
        return sorted(self._by_shape.values(), key=lambda one: -one.failures)[:count]


def shape_of(reason: str) -> str:
    """A reason without what differs from video to video: numbers, quoted names, paths."""
    return re.sub(r"0x[0-9a-f]+|\d+|'[^']*'|\"[^\"]*\"|/\S+", "#", reason)
