"""How much one run may do: what is under way at its end is finished, and nothing more is begun."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from pipeline.durations import said


@dataclass
class Budget:
    """A run's time and frames; none of either where it is None."""

    seconds: float | None = None
    """From the run's start, what it needs to start among it."""
    frames: int | None = None
    """Of the shards that are begun. The shard with which they are reached is done whole, so that
    a run does less than one shard more, however many workers it has."""
    begun_frames: int = 0
    _started_at: float = field(default_factory=time.monotonic)

    @property
    def is_up(self) -> bool:
        """Whether no further video or shard is to be begun; once it is, it stays so."""
        if self.frames is not None and self.begun_frames >= self.frames:
            return True
        return self.seconds is not None and time.monotonic() - self._started_at >= self.seconds

    def begins(self, frames: int) -> None:
        """A shard of so many sampled frames is begun. One that is tried again is begun once."""
        self.begun_frames += frames

    def __str__(self) -> str:
        parts = [said(self.seconds)] if self.seconds is not None else []
        parts += [f"{self.frames:,} frames"] if self.frames is not None else []
        return " or ".join(parts)
