"""Outputs of which files are gone or broken: said in one line, wherever they are opened."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from deltalake.exceptions import DeltaError

from pipeline.errors import RunAborted, UsageError
from pipeline.ledger.schema import TABLES
from pipeline.ledger.store import Store
from pipeline.storage.objects import StoreError


class DamagedOutput(UsageError):
    """A table that was there is not, or cannot be read."""


@contextmanager
def damage_is_said(store: Store, *, all_there: bool = True) -> Iterator[None]:
    """Turn what Arrow and Delta raise over missing and broken files into DamagedOutput, and over a
    store that is away or refuses into RunAborted. With `all_there` no table may lack either."""
    try:
        if all_there:
            check_tables(store)
        yield
    except StoreError as error:
        raise RunAborted(f"output {store.root}: {error}") from error
    except (pa.ArrowInvalid, DeltaError, OSError) as error:
        # Arrow says OSError, without a number, of bytes that are no Parquet any more.
        if getattr(error, "errno", None) not in (None, errno.ENOENT):
            raise
        line = " ".join(str(error).split())[:300]
        raise DamagedOutput(
            f"output {store.root}: files are missing or broken ({line}); bring them back from a "
            "copy, or name another output"
        ) from error


def check_tables(store: Store) -> None:
    """Raise DamagedOutput where some tables hold rows and others are not there at all.

    A run that was stopped while it made its tables leaves some missing, and all of them empty.
    """
    there = [name for name in TABLES if store.exists(name)]
    missing = [name for name in TABLES if name not in there]
    if missing and any(store.open(name).file_uris() for name in there):
        raise DamagedOutput(
            f"output {store.root}: the table {missing[0]} is missing, while others hold rows; "
            "bring it back from a copy, or name another output"
        )
