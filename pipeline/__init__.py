"""frameledger: every sampled frame of a corpus of videos, with its detections and its embedding.

from pipeline import Ledger, Where, run
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.ledger.reader import Ledger
    from pipeline.results.where import Where
    from pipeline.runner import run

__version__ = "0.1.0"
__all__ = ["Ledger", "Where", "__version__", "run"]


def __getattr__(name: str) -> Any:
    # Imported on first use: `frameledger --help` must not pay for Arrow and Delta.
    if name == "Ledger":
        from pipeline.ledger.reader import Ledger

        return Ledger
    if name == "Where":
        from pipeline.results.where import Where

        return Where
    if name == "run":
        from pipeline.runner import run

        return run
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
