"""The fenced blocks of cluster/README.md: `sh` is parsed by the tests, `sh tested` is run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).parents[2] / "cluster" / "README.md"


@dataclass(frozen=True)
class Block:
    language: str
    tested: bool
    text: str
    line: int
    """Of its first line in the file, from 1."""


def blocks() -> list[Block]:
    """In the order of the file. Raises ValueError for a block of which the kind is not told."""
    found = []
    source = README.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(.*)\n((?:.*\n)*?)```$", source, re.MULTILINE):
        language, _, mark = match[1].partition(" ")
        line = source[: match.start()].count("\n") + 2
        if language not in ("sh", "python") or mark not in ("", "tested"):
            raise ValueError(f"{README.name}:{line}: sh or python is expected, not {match[1]!r}")
        found.append(Block(language, mark == "tested", match[2], line))
    return found
