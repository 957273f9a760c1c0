"""How large pictures are that were made smaller: integer arithmetic, and the name it goes by."""

from __future__ import annotations

SCALING_SEMANTICS = 1
"""Version of how pictures are made smaller; raised whenever the same one would come out other."""


def scaled_size(width: int, height: int, side: int) -> tuple[int, int]:
    """(width, height) with a shorter side of `side` pixels, the longer one to the nearest pixel.

    Never larger than it is: a picture whose shorter side is not above `side` stays. The shorter
    side, not the height: of a film that was taken upright, what models crop would else be enlarged.
    """
    short, long = min(width, height), max(width, height)
    if short <= side:
        return width, height
    new_long = (2 * long * side + short) // (2 * short)
    return (new_long, side) if width >= height else (side, new_long)


def scaling_identity(side: int) -> dict[str, object]:
    """What is added to the identity of an analysis that was given such pictures."""
    return {"side": side, "filter": "area", "semantics": SCALING_SEMANTICS}
