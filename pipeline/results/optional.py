"""Libraries that only some uses need, loaded when one does."""

from __future__ import annotations

import importlib
from types import ModuleType

from pipeline.errors import UsageError


def load(module: str, package: str, purpose: str) -> ModuleType:
    """The module. Raises UsageError, one line that says what to install, where it is absent."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        reason = "" if isinstance(error, ModuleNotFoundError) else f" ({error})"
        raise UsageError(f"{purpose} needs {package}{reason}: pip install {package}") from None
