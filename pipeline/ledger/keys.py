"""What is known of millions of videos in few bytes each: sorted 128-bit hashes in numpy arrays.

A million videos as Python strings in dicts are hundreds of MB; here a key is 16 bytes. 128 bits
make a hit safe: among a billion keys the odds of any collision are about 1e-21.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

KEY = np.dtype([("hi", np.uint64), ("lo", np.uint64)])


def key_of(text: str) -> tuple[int, int]:
    """(hi, lo): blake2b of the text, 128 bits as two unsigned 64-bit integers."""
    raw = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()
    return int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")


def keys_of(texts: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """KEY (n,) of a string column without nulls; every distinct text is hashed once."""
    if isinstance(texts, pa.ChunkedArray):
        parts = [keys_of(chunk) for chunk in texts.chunks]
        return np.concatenate(parts) if parts else np.empty(0, KEY)
    encoded = texts.dictionary_encode()
    raw = b"".join(
        hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()
        for text in encoded.dictionary.to_pylist()
    )
    distinct = np.frombuffer(raw, dtype="<u8").reshape(-1, 2).astype(np.uint64)
    chosen = distinct[encoded.indices.to_numpy()]
    keys = np.empty(len(texts), KEY)
    keys["hi"], keys["lo"] = chosen[:, 0], chosen[:, 1]
    return keys


def order_of(keys: np.ndarray, *then: np.ndarray) -> np.ndarray:
    """Stable order by key, then by further arrays."""
    return np.lexsort((*reversed(then), keys["lo"], keys["hi"]))


def span(keys: np.ndarray, key: tuple[int, int]) -> slice:
    """Where the sorted `keys` equal `key`."""
    hi, lo = np.uint64(key[0]), np.uint64(key[1])
    begin, end = (int(np.searchsorted(keys["hi"], hi, side)) for side in ("left", "right"))
    low = keys["lo"][begin:end]
    a, b = (int(np.searchsorted(low, lo, side)) for side in ("left", "right"))
    return slice(begin + a, begin + b)


class KeySet:
    """A set of texts by hash: 16 bytes each, besides the newest few."""

    _FEW = 100_000

    def __init__(self, columns: Iterable[pa.ChunkedArray | pa.Array] = ()) -> None:
        parts = [keys_of(column) for column in columns]
        keys = np.concatenate(parts) if parts else np.empty(0, KEY)
        self._keys = keys[order_of(keys)]
        self._added: set[tuple[int, int]] = set()

    def __contains__(self, text: str) -> bool:
        key = key_of(text)
        if key in self._added:
            return True
        found = span(self._keys, key)
        return found.stop > found.start

    def add(self, text: str) -> None:
        self._added.add(key_of(text))
        if len(self._added) >= self._FEW:
            keys = np.concatenate([self._keys, np.array(list(self._added), KEY)])
            self._keys = keys[order_of(keys)]
            self._added.clear()
