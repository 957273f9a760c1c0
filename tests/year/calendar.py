"""What happens on each day, and all of it from the seed. Pure: nothing is touched here."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

How = Literal["plain", "ray", "budget", "killed", "share", "leave", "takeover"]
"""plain, ray: a run in this process, by the engine's name. budget: one that stops at its budget.
killed: a process that ends by SIGKILL. share: two processes at once. leave: another one that
leaves everything to the first. takeover: two at once, of which one is killed."""
Change = Literal["add", "change", "touch", "copy", "rename", "delete", "break", "mend"]

WEIGHTS: dict[Change, float] = {
    "add": 0.50,
    "change": 0.16,
    "touch": 0.08,
    "copy": 0.07,
    "rename": 0.06,
    "delete": 0.05,
    "break": 0.03,
    "mend": 0.05,
}
PRIORITIES = ("discovery", "newest", "oldest", "stale-first")
GC_EVERY, VERIFY_EVERY = 7, 30
FIRST = 6
"""Videos on the first day."""


@dataclass(frozen=True)
class Day:
    """One day's changes to the corpus, and its run."""

    number: int
    changes: tuple[Change, ...]
    detector: int
    embedder: int
    stride: int
    how: How
    priority: str
    share: float
    """Of the day's work: where it is killed, or its budget ends."""
    gc: bool
    verify: bool


def year(seed: int, days: int, with_ray: bool) -> list[Day]:
    """Days of a schedule; what is disturbed is so more often when a model has changed, since
    there is more to disturb then."""
    rng, found = random.Random(seed), []
    detector = embedder = 1
    stride = 1
    # In a short year as much happens as in a long one.
    often = max(1.0, 60 / days)
    for number in range(days):
        kinds = rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=rng.randint(0, 3))
        changes = ("add",) * FIRST if not number else tuple(kinds)
        fresh = False
        if number and rng.random() < 0.04 * often:
            detector, fresh = max(1, detector + rng.choice((1, 1, 1, 1, -1))), True
        if number and rng.random() < 0.04 * often:
            embedder, fresh = max(1, embedder + rng.choice((1, 1, 1, 1, -1))), True
        if number and rng.random() < 0.012 * often:
            stride, fresh = rng.choice([s for s in (1, 2, 3) if s != stride]), True
        day = Day(
            number,
            changes,
            detector,
            embedder,
            stride,
            _how(rng, number, fresh, often, with_ray),
            rng.choice(PRIORITIES),
            rng.random(),
            gc=number % GC_EVERY == GC_EVERY - 1,
            verify=number % VERIFY_EVERY == VERIFY_EVERY - 1 or number == days - 1,
        )
        found.append(day)
    return [*found[:-1], _whole(found[-1])]


def _how(rng: random.Random, number: int, fresh: bool, often: float, with_ray: bool) -> How:
    drawn = rng.random()
    if not number:
        return "plain"
    if fresh or drawn < 0.18 * min(2.0, often):
        disturbed: list[How] = ["killed", "killed", "share", "takeover", "budget", "leave"]
        return rng.choice(disturbed)
    return "ray" if with_ray and drawn > 0.985 else "plain"


def _whole(last: Day) -> Day:
    """A year ends with a run that nothing disturbs."""
    from dataclasses import replace

    return replace(last, how="plain", gc=True)
