"""Why a piece of work failed, as the engines weigh it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from pipeline.errors import DeviceLost, FrameledgerError, VideoError

T = TypeVar("T")


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
            final=error.stage in ("index", "decode", "prompts") and not error.systemic,
            # A model that raises for one video may do so for all.
            systemic=error.systemic or error.stage == "analyze",
            device_lost=isinstance(error, DeviceLost),
        )

    def said(self, verdict: str) -> Cause:
        """The same with a better reason, where there is one."""
        return replace(self, reason=verdict, final=False) if verdict else self


def as_video_errors(work: Callable[[], T], stage: str) -> T:
    """Whatever else goes wrong with a video is its failure and not the run's end, as with Ray."""
    try:
        return work()
    except FrameledgerError:
        raise
    except Exception as error:
        line = " ".join(str(error).split())[:300]
        raise VideoError(stage, f"{type(error).__name__}: {line}") from error
