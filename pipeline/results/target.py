"""Files that commands write: looked at before the work begins, there only when they are whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import RunAborted, UsageError
from pipeline.storage.uris import is_remote


def check_target(path: str, ending: str) -> Path:
    """Where a file is to be made. Raises UsageError where that cannot be."""
    if is_remote(path):
        raise UsageError(f"-o {path}: is written to a local file; copy it there afterwards")
    target = Path(path)
    if target.suffix.lower() != ending:
        raise UsageError(f"-o {path}: give a name that ends in {ending}")
    if not target.parent.is_dir():
        raise UsageError(f"-o {path}: there is no folder {target.parent}")
    if target.is_dir():
        raise UsageError(f"-o {path}: is a folder")
    return target


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A name to write to; the file is `target` when the block ends well, and gone otherwise.

    Raises RunAborted where the system does not let it be written.
    """
    part = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        yield part
        os.replace(part, target)
    except OSError as error:
        raise RunAborted(f"{target}: cannot be written: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
