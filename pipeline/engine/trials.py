"""How often a shard may fail, and which clip is to blame: arithmetic on counts, no processes.

try 1   clips travel in parcels: it is not known exactly where it failed
try 2.. each clip by itself: the first that does not come back is the culprit
a clip that was the culprit to the end of its tries is quarantined, and the rest tried anew
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

MOST_QUARANTINED = 4
"""Clips of one shard; where more of them fail, the shard as a whole is what is wrong."""
MOST_ROUNDS = 10
"""Times the tries of one clip that a whole shard may cost, wherever it fails."""

Verdict = Literal["again", "quarantine", "give up"]


@dataclass
class Trials:
    """The tries that one shard has cost so far."""

    allowed: int
    """Tries, from the configuration."""
    failed: int = 0
    """Tries that failed while the shard itself was worked on."""
    blurred: int = 0
    """Those of them of which it is not known which clip they failed at."""
    blamed: dict[int, int] = field(default_factory=dict)
    """clip_index -> tries that failed at it."""
    quarantined: int = 0

    def strike(self, clip: int | None) -> Verdict:
        """Count a try that failed at `clip` (None: not known), and say what is to be done."""
        self.failed += 1
        if self.failed >= MOST_ROUNDS * self.allowed:
            return "give up"
        if clip is None:
            self.blurred += 1
            return "give up" if self.blurred >= self.allowed else "again"
        self.blamed[clip] = self.blamed.get(clip, 0) + 1
        if self.attempts_at(clip) < self.allowed:
            return "again"
        if self.quarantined == MOST_QUARANTINED:
            return "give up"
        self.quarantined += 1
        return "quarantine"

    def attempts_at(self, clip: int) -> int:
        """Tries that count against `clip`; one that was blurred may have failed at it too."""
        return self.blamed.get(clip, 0) + min(self.blurred, self.allowed - 1)
