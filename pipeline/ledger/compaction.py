"""Which small files of a table belong together, and putting them together.

A commit makes a file in every partition it touches, so a long run leaves thousands. Files are
gathered from the smallest on, so that a file is written anew a few times in all and not by every
gc; what has reached half the target stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.ledger.parts import Part, parts_of
from pipeline.ledger.rewrite import rewrite
from pipeline.ledger.store import Store

TARGET_BYTES = 128 * 2**20
"""Of a file: large enough that a table of a terabyte has some thousands, small enough to sort in
memory."""
FEWEST = 4
"""Files that are worth a commit."""
TRIES = 5


@dataclass(frozen=True)
class Compacted:
    """What a table's small files have become, or would."""

    table: str
    files_before: int
    bytes_before: int
    files_after: int
    bytes_after: int | None
    """None where nothing was written."""
    old: tuple[Part, ...] = field(default=(), repr=False)
    """The files that were put together."""


def bins_of(parts: Iterable[Part], target_bytes: int = TARGET_BYTES) -> list[list[Part]]:
    """Files to be made one, partition by partition: at least FEWEST, `target_bytes` at most."""
    by_partition: dict[tuple[tuple[str, str | None], ...], list[Part]] = {}
    for part in parts:
        if part.size_bytes < target_bytes // 2:
            by_partition.setdefault(part.partition, []).append(part)
    bins: list[list[Part]] = []
    for _, small in sorted(by_partition.items(), key=lambda item: str(item[0])):
        current: list[Part] = []
        for part in sorted(small, key=lambda part: (part.size_bytes, part.path)):
            if sum(one.size_bytes for one in current) + part.size_bytes > target_bytes:
                bins.append(current)
                current = []
            current.append(part)
        bins.append(current)
    return [one for one in bins if len(one) >= FEWEST]


def compact(
    store: Store,
    table: str,
    note: object = None,
    *,
    dry_run: bool = False,
    leave: frozenset[str] = frozenset(),
    target_bytes: int = TARGET_BYTES,
) -> Compacted | None:
    """Compact a table bin by bin, a commit each. None where nothing is small enough.

    Safe beside writers and another gc: a bin of which a file is gone is planned anew. Files whose
    paths are in `leave` are not looked at.
    """

    def plan() -> list[list[Part]]:
        parts = (part for part in parts_of(store.open(table)) if part.path not in leave)
        return bins_of(parts, target_bytes)

    planned = plan()
    if dry_run:
        parts = tuple(part for bin_ in planned for part in bin_)
        nbytes = sum(part.size_bytes for part in parts)
        return Compacted(table, len(parts), nbytes, len(planned), None, parts) if parts else None
    old: list[Part] = []
    new: list[Part] = []
    lost = 0
    while planned and lost < TRIES:
        parts = tuple(planned.pop(0))
        made = rewrite(store, table, store.open(table), [list(parts)], note=note)
        if made is None:
            lost += 1
            planned = plan()
        else:
            old += parts
            new += made
    if not old:
        return None
    sizes = (sum(part.size_bytes for part in some) for some in (old, new))
    before, after = sizes
    return Compacted(table, len(old), before, len(new), after, tuple(old))
