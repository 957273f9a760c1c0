"""The errors a user can meet, each with the exit code of the command that ends on it."""

from __future__ import annotations

import errno

EXIT_OK = 0
EXIT_ABORTED = 1
EXIT_USAGE = 2
EXIT_FAILURES = 3


class FrameledgerError(Exception):
    """Base of every error whose message is meant for the user: one line, no traceback.

    The message names the file, the key or value, and what to do.
    """

    exit_code = EXIT_ABORTED


class UsageError(FrameledgerError):
    """The command, the configuration, a path or a model is not usable as given."""

    exit_code = EXIT_USAGE


class ConfigError(UsageError):
    """The configuration cannot be used; the message names file, key and value."""


class RunAborted(FrameledgerError):
    """The run stopped before its end; what was committed stays."""


class VideoError(FrameledgerError):
    """One video (or a range of it) cannot be processed. Becomes a `failures` row, ends no run."""

    def __init__(self, stage: str, reason: str, systemic: bool = False) -> None:
        """`systemic`: the reason is likely not this video's own, such as a mount that is gone."""
        super().__init__(reason)
        self.stage = stage
        self.reason = reason
        self.systemic = systemic

    def __reduce__(self) -> tuple[type[VideoError], tuple[str, str, bool]]:
        # Exceptions cross process borders by pickle, which replays __init__ with self.args.
        return (type(self), (self.stage, self.reason, self.systemic))


_SYSTEMIC = (
    *(errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT),
    *(errno.EMFILE, errno.ENFILE, errno.ENODEV, errno.EHOSTDOWN, errno.EHOSTUNREACH),
)


def is_systemic(error: BaseException) -> bool:
    """Whether what the system says of one file it would likely say of the next: a share that is
    away, a user who may not read. That a file is not there is said of that file."""
    return isinstance(error, OSError) and error.errno in _SYSTEMIC


class DeviceLost(VideoError):
    """A GPU does not work in this process any more, whatever comes next: it has to be replaced."""
