"""What Ray raises, as stages and reasons for `failures` rows and as errors for the user."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import (
    ActorUnschedulableError,
    NodeDiedError,
    ObjectLostError,
    RayActorError,
    RayError,
    RayTaskError,
)

from pipeline.engine.cause import Cause
from pipeline.errors import FrameledgerError, RunAborted, VideoError


def get(ref: Any) -> Any:
    """`ray.get`, with a user's error raised as itself, be it of a task or of an actor's start."""
    try:
        return ray.get(ref)
    except RayTaskError as error:
        if isinstance(error.cause, FrameledgerError):
            raise error.cause from None
        raise
    except RayActorError as error:
        cause = user_error(error)
        if cause is not None:
            raise cause from None
        raise


def started(ref: Any, what: str) -> None:
    """Wait for an actor's first answer. Raises what the user did wrong, or RunAborted."""
    try:
        get(ref)
    except RayActorError as error:
        raise RunAborted(f"{what}: {last_line(error)}") from None


def explain(error: RayError, stage: str) -> Cause:
    """What came back instead of a result. Raises what is not of one video alone."""
    if died(error):
        return Cause(stage, "the process that worked on it died", systemic=True)
    if isinstance(error, RayTaskError):
        cause = error.cause
        if isinstance(cause, VideoError):
            return Cause.of(cause)
        if isinstance(cause, FrameledgerError):
            raise cause  # Nothing of this video's: the run cannot go on.
        return Cause(stage, f"{type(cause).__name__}: {last_line(cause)}", systemic=True)
    return Cause(stage, f"{type(error).__name__}: {last_line(error)}", systemic=True)


def died(error: RayError) -> str | None:
    """The id of the actor whose death `error` tells of; it may come by way of a task that was to
    take what that actor did not make."""
    cause = _root(error)
    return str(cause.actor_id) if isinstance(cause, RayActorError) else None


def tells_of_lost_node(error: RayError) -> bool:
    """Whether what came back is that a node has gone, with its actors or with what they made."""
    return isinstance(_root(error), (ActorUnschedulableError, NodeDiedError, ObjectLostError))


def _root(error: RayError) -> Any:
    cause: Any = error
    while isinstance(cause, RayTaskError) and isinstance(cause.cause, RayError):
        cause = cause.cause
    return cause


def user_error(error: RayActorError) -> FrameledgerError | None:
    """The error for the user that an actor's constructor raised, if it was one."""
    cause: Any = getattr(error, "cause", None) or error.__cause__
    if isinstance(cause, RayTaskError):
        cause = cause.cause
    return cause if isinstance(cause, FrameledgerError) else None


def last_line(error: BaseException) -> str:
    """The last line of an error's text, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
