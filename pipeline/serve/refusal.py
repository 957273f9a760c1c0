"""What is answered to a request that cannot be served: a status and one plain line."""

from __future__ import annotations


class Refusal(Exception):
    """Becomes the answer. The line must say nothing of this machine."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status
        self.line = line
