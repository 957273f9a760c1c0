"""Connecting to a Ray: the one place that calls `ray.init`."""

from __future__ import annotations

import os
import socket
from typing import Any

import ray

from pipeline.engine.tokens import prepare_token
from pipeline.errors import UsageError


def join(address: str, **options: Any) -> Any:
    """Connect this process to the Ray at `address`, or start one (`local`) with `options`.

    Returns what `ray.init` does. Raises UsageError where no Ray is to be had.
    """
    _check_address(address)
    prepare_token(address)
    # A driver under `uv run` would otherwise send its environment to every worker.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    # What fails is asked for; once a run has been given up, what else had failed by then would be
    # a traceback each.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    try:
        return ray.init(
            address=address,
            log_to_driver=False,
            logging_level="ERROR",
            configure_logging=True,
            **options,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise UsageError(f"--address {address}: no Ray to be had there: {why}") from None


def _check_address(address: str) -> None:
    """Raise UsageError where nobody listens: Ray itself tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        with socket.create_connection((host, int(port)), timeout=10):
            pass
    except (OSError, OverflowError) as error:
        raise UsageError(f"--address {address}: no Ray to be had there: {error}") from None
