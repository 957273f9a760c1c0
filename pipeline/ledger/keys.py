"""What is known of millions of videos in few bytes each: sorted 128-bit keys in numpy arrays.

A million videos as Python strings in dicts are hundreds of MB; here a key is 16 bytes. 128 bits
make a hit safe: among a billion keys the odds of any collision are about 1e-21.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

KEY = np.dtype([("hi", "<u8"), ("lo", "<u8")])

_SHA256_HEX = 64
_DIGIT = np.full(256, 255, np.uint8)
_DIGIT[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)


def key_of(text: str) -> tuple[int, int]:
    """(hi, lo): two unsigned 64-bit integers out of the first 128 bits of a sha256 in hex, and of
    the blake2b of any other text."""
    raw = _raw(text.encode("utf-8", "surrogateescape"))
    return int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")


def keys_of(texts: pa.ChunkedArray | pa.Array | Sequence[str]) -> np.ndarray:
    """KEY (n,) of texts, or of a string column without nulls."""
    if not isinstance(texts, (pa.ChunkedArray, pa.Array)):
        raw = (_raw(text.encode("utf-8", "surrogateescape")) for text in texts)
        return np.frombuffer(b"".join(raw), KEY)
    if isinstance(texts, pa.ChunkedArray):
        parts = [keys_of(chunk) for chunk in texts.chunks]
        return np.concatenate(parts) if parts else np.empty(0, KEY)
    if not len(texts):
        return np.empty(0, KEY)
    texts = texts.cast(pa.binary())
    keys = _leading_bits(texts)
    if keys is None:
        keys = np.frombuffer(b"".join(map(_raw, texts.to_pylist())), KEY)
    return keys


def _raw(text: bytes) -> bytes:
    """The 16 bytes of a key."""
    if len(text) == _SHA256_HEX and text.strip(b"0123456789abcdef") == b"":
        return bytes.fromhex(text[:32].decode())
    return hashlib.blake2b(text, digest_size=16).digest()


def _leading_bits(texts: pa.Array) -> np.ndarray | None:
    """KEY (n,) of hex sha256 sums, which are hashes already; None where not all texts are."""
    lengths = pc.min_max(pc.binary_length(texts)).as_py()
    if lengths != {"min": _SHA256_HEX, "max": _SHA256_HEX}:
        return None
    data = np.frombuffer(texts.buffers()[2], np.uint8)
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset :]
    begin = int(offsets[0])
    data = data[begin : begin + len(texts) * _SHA256_HEX].reshape(-1, _SHA256_HEX)
    digits = _DIGIT[data]
    if digits.max() > 15:
        return None
    digits = digits[:, :32]
    return np.ascontiguousarray(digits[:, ::2] << 4 | digits[:, 1::2]).view(KEY).reshape(-1)


def order_of(keys: np.ndarray, *then: np.ndarray) -> np.ndarray:
    """Stable order by key, then by further arrays."""
    return np.lexsort((*reversed(then), keys["lo"], keys["hi"]))


class SortedKeys:
    """Keys in order, each there once or more often.

    The two halves lie apart: numpy copies a field of a structured array for every search in it.
    """

    def __init__(self, keys: np.ndarray) -> None:
        self._hi = np.ascontiguousarray(keys["hi"])
        self._lo = np.ascontiguousarray(keys["lo"])

    def __len__(self) -> int:
        return len(self._hi)

    def at(self, places: np.ndarray | slice = slice(None)) -> np.ndarray:
        """KEY (n,): the keys at those places, all without any."""
        hi = self._hi[places]
        keys = np.empty(len(hi), KEY)
        keys["hi"], keys["lo"] = hi, self._lo[places]
        return keys

    def starts(self) -> np.ndarray:
        """int64 (n,): the first place of every key."""
        changes = (self._hi[1:] != self._hi[:-1]) | (self._lo[1:] != self._lo[:-1])
        return np.flatnonzero(np.append([True], changes)[: len(self)])

    def span(self, key: tuple[int, int]) -> slice:
        """Where the key lies."""
        hi, lo = (np.uint64(half) for half in key)
        begin, end = (int(np.searchsorted(self._hi, hi, side)) for side in ("left", "right"))
        low = self._lo[begin:end]
        a, b = (int(np.searchsorted(low, lo, side)) for side in ("left", "right"))
        return slice(begin + a, begin + b)

    def find(self, keys: np.ndarray) -> np.ndarray:
        """int64 (n,): the first place of each key, -1 where it is not there."""
        at = np.searchsorted(self._hi, np.ascontiguousarray(keys["hi"]))
        found = np.full(len(keys), -1, np.int64)
        left = np.arange(len(keys))
        while True:
            inside = at[left] < len(self._hi)
            left = left[inside]
            left = left[self._hi[at[left]] == keys["hi"][left]]
            here = self._lo[at[left]] == keys["lo"][left]
            found[left[here]] = at[left[here]]
            left = left[~here]
            if not len(left):
                return found
            at[left] += 1  # another key with the same first half


class KeySet:
    """A set of texts by hash: 16 bytes each, besides the newest few."""

    _FEW = 100_000

    def __init__(self, columns: Iterable[pa.ChunkedArray | pa.Array] = ()) -> None:
        parts = [keys_of(column) for column in columns]
        self._keep(np.concatenate(parts) if parts else np.empty(0, KEY))

    def _keep(self, keys: np.ndarray) -> None:
        self._sorted = SortedKeys(keys[order_of(keys)])
        self._added: set[tuple[int, int]] = set()

    def __contains__(self, text: str) -> bool:
        key = key_of(text)
        if key in self._added:
            return True
        found = self._sorted.span(key)
        return found.stop > found.start

    def add(self, text: str) -> None:
        self._added.add(key_of(text))
        if len(self._added) >= self._FEW:
            self._keep(np.concatenate([self._sorted.at(), np.array(list(self._added), KEY)]))
