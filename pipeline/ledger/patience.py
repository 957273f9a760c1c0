"""How often, and after what waits, a commit is tried again."""

from __future__ import annotations

import random
import re
import time

from pipeline.errors import RunAborted
from pipeline.storage.objects import is_refusal

CONFLICT_TRIES = 50
"""Lost races, each of which another writer has won: somebody always gets on."""
STORE_TRIES = 5
LONGEST_S = 120.0
"""No try begins after so long: those of an object store each wait by themselves."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 2.0


class Patience:
    """Bounded tries with growing, jittered waits; conflicts and failures are counted apart."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._conflicts = 0
        self._failures = 0
        self._began = time.monotonic()

    def conflict(self, error: Exception) -> None:
        self._conflicts += 1
        self._wait(self._conflicts, CONFLICT_TRIES, error)

    def failure(self, error: Exception) -> None:
        self._failures += 1
        if is_refusal(str(error)):
            line = one_line(error)
            raise RunAborted(
                f"{self.what}: the store refuses access: {line}; what was committed is kept: run "
                "again with credentials that it accepts"
            ) from error
        late = time.monotonic() - self._began > LONGEST_S
        self._wait(self._failures, self._failures if late else STORE_TRIES, error)

    def _wait(self, count: int, most: int, error: Exception) -> None:
        if count >= most:
            raise RunAborted(f"{self.what}: {one_line(error)} ({count} tries)") from error
        longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**count)
        time.sleep(random.uniform(0, longest))


def one_line(error: Exception) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # The colours of delta-rs.
    return " ".join(text.split())[:300] or type(error).__name__
