"""Folders on a node's disk that one user's processes share, and nobody else can write to."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from pipeline.errors import UsageError


def own_folder(folder: str, setting: str, name: str = "") -> str:
    """The path of FOLDER/frameledger-UID, or of `name` in it, made with mode 0700 if missing.

    Args:
        setting: the configuration's key for `folder`, to be named in errors.

    Raises UsageError where it cannot be made, or others could put bytes there for ours.
    """
    root = os.path.join(folder, f"frameledger-{os.getuid()}")
    paths = [root, os.path.join(root, name)] if name else [root]
    try:
        os.makedirs(folder, exist_ok=True)
        for path in paths:
            with suppress(FileExistsError):
                os.mkdir(path, 0o700)
            _check_ours(path, setting)
    except OSError as error:
        raise UsageError(f"cache {root}: {error.strerror}; set {setting}") from None
    return paths[-1]


def _check_ours(path: str, setting: str) -> None:
    found = os.lstat(path)
    if not os.path.isdir(path) or os.path.islink(path) or found.st_uid != os.getuid():
        raise UsageError(f"cache {path}: is not a folder of this user; set {setting}")
    if found.st_mode & 0o077:
        raise UsageError(f"cache {path}: is open to others; chmod 700 it, or set {setting}")


@contextmanager
def alone(folder: str) -> Iterator[None]:
    """While nobody else is in such a block for this folder."""
    lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def is_boot(name: str) -> bool:
    """Whether a name is as `boot` gives them."""
    return re.fullmatch("[0-9a-f]{8}", name) is not None


@lru_cache(maxsize=1)
def boot() -> str:
    """Another after each start of the machine, the same in all its containers."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import psutil

        text = str(int(psutil.boot_time()))
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
