"""Why a piece of work failed, as the engines weigh it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.errors import DeviceLost, VideoError


@dataclass(frozen=True)
class Cause:
    stage: str
    reason: str
    final: bool = False
    """Trying again is pointless: a file that cannot be decoded will not be the next time."""
    systemic: bool = False
    """Likely not this video's own."""
    device_lost: bool = False
    """The process can compute nothing more on its GPU."""

    @classmethod
    def of(cls, error: VideoError) -> Cause:
        return cls(
            error.stage,
            error.reason,
            final=error.stage in ("index", "decode") and not error.systemic,
            # A model that raises for one video may do so for all.
            systemic=error.systemic or error.stage == "analyze",
            device_lost=isinstance(error, DeviceLost),
        )

    def said(self, verdict: str) -> Cause:
        """The same with a better reason, where there is one."""
        return replace(self, reason=verdict, final=False) if verdict else self
