"""Files and folders that appear under their names when they are whole, and not before."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.storage.objects import StoreError


@contextmanager
def new_file(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """The temporary name beside `path` to write to; at the end it is renamed.

    What fails leaves nothing; what is killed leaves a hidden name that ends in `.part`. Raises
    UsageError where `path` is there already and not to be overwritten, or cannot be written.
    """
    with _beside(path, overwrite) as temporary:
        if path.is_dir():
            raise UsageError(f"{path}: is a folder; name a file")
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)


@contextmanager
def new_folder(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """The same for a folder, which is there, empty. One that is overwritten goes as a whole."""
    with _beside(path, overwrite) as temporary:
        temporary.mkdir()
        yield temporary
        old = temporary.with_suffix(".old")
        if path.exists():
            path.rename(old)
        temporary.rename(path)
        _remove(old)


@contextmanager
def _beside(path: Path, overwrite: bool) -> Iterator[Path]:
    if "://" in os.fspath(path) or ":/" in os.fspath(path):
        raise UsageError(f"{path}: is no path of this machine; write here, and copy it there")
    if path.exists() and not overwrite:
        raise UsageError(f"{path}: is there already; name another, or give --overwrite")
    temporary = path.parent / f".{path.name}-{secrets.token_hex(4)}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
    except StoreError:
        raise
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
