"""Objects of a store: read, written once, listed as a stream.

Retries are the client's own: server errors, throttling and lost connections are tried again with
exponential backoff and jitter, and a body that breaks off goes on from where it did.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.storage.clients import bucket
from pipeline.storage.uris import Place, split

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_LIST_CHUNK = 1000
"""Keys that a store lists at once."""


class StoreError(OSError):
    """A store that is away, refuses or fails; one line that names the URI."""

    code = errno.EIO
    """As of a disk: what is said of one object would likely be said of the next."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(self.code, reason, uri)

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.filename, self.strerror))


class StoreRefused(StoreError):
    """It does not accept the credentials, or they do not allow this: no try will mend it."""

    code = errno.EACCES


class NoBucket(StoreError):
    """There is no such bucket or container, or not in this region."""

    code = errno.ENODEV


class ObjectChanged(StoreError):
    """It is not the version any more that was asked for."""

    code = 0

    def __init__(self, uri: str, reason: str = "the file changed during the run") -> None:
        super().__init__(uri, reason)


@dataclass(frozen=True)
class Stat:
    """An object as a listing knows it."""

    uri: str
    size_bytes: int
    stamp: str
    """`size:ETag`: differs when the bytes may differ. Where a store has no ETags, the time."""
    modified_s: float
    """Seconds since 1970 by the store's clock."""


def stat(uri: str) -> Stat:
    """Raises FileNotFoundError, StoreError."""
    place = split(uri)
    with explained(uri):
        return _stat(place, _obstore().head(bucket(place.kind, place.bucket), place.key))


def listed(uri: str) -> Iterator[Stat]:
    """Objects below `uri` by name, streamed: pages are asked for as they are consumed."""
    place = split(uri)
    prefix = place.key + "/" if place.key else None
    with explained(uri):
        pages = _obstore().list(bucket(place.kind, place.bucket), prefix, chunk_size=_LIST_CHUNK)
        for page in pages:
            for meta in page:
                yield _stat(place, meta)


def read(uri: str) -> bytes:
    """A whole object. Raises FileNotFoundError, StoreError."""
    place = split(uri)
    with explained(uri):
        return bytes(_obstore().get(bucket(place.kind, place.bucket), place.key).bytes())


def read_range(uri: str, start: int, stop: int) -> bytes:
    """Bytes [start, stop) of an object. Raises FileNotFoundError, StoreError."""
    place = split(uri)
    with explained(uri):
        store = bucket(place.kind, place.bucket)
        return bytes(_obstore().get_range(store, place.key, start=start, end=stop))


def read_version(uri: str, stamp: str, start: int, stop: int) -> memoryview:
    """Bytes [start, stop) of the object while it is what `stamp` says; not empty.

    The store compares on its side (If-Match), so that reading costs no request beyond its own.

    Raises ObjectChanged where it is another by now, FileNotFoundError, StoreError.
    """
    from obstore.exceptions import PreconditionError

    place = split(uri)
    options: dict[str, Any] = {"range": (start, stop)}
    tag = stamp.partition(":")[2]
    if not tag.startswith(("W/", _BY_TIME)):
        options["if_match"] = f'"{tag}"'
    try:
        with explained(uri):
            store = bucket(place.kind, place.bucket)
            found = _obstore().get(store, place.key, options=options)
            if _stat(place, found.meta).stamp != stamp:
                raise ObjectChanged(uri)
            data = memoryview(found.bytes())
    except PreconditionError:
        raise ObjectChanged(uri) from None
    if len(data) != stop - start:
        raise StoreError(uri, f"sent {len(data)} bytes for {stop - start}")
    return data


def read_from(uri: str, start: int) -> bytes:
    """An object from byte `start`, which it has, to its end. Raises as `read`."""
    place = split(uri)
    with explained(uri):
        store, options = bucket(place.kind, place.bucket), {"range": {"offset": start}}
        return bytes(_obstore().get(store, place.key, options=options).bytes())


def read_tail(uri: str, nbytes: int) -> tuple[bytes, int]:
    """(its last `nbytes` or all of it, its size): one request. Raises as `read`."""
    place = split(uri)
    with explained(uri):
        store = bucket(place.kind, place.bucket)
        if place.kind == "az":  # Which knows no ranges that count from the end.
            size = int(_obstore().head(store, place.key)["size"])
            start = max(0, size - nbytes)
            return bytes(_obstore().get_range(store, place.key, start=start, end=size)), size
        options = {"range": {"suffix": nbytes}}
        found = _obstore().get(store, place.key, options=options)
        return bytes(found.bytes()), int(found.meta["size"])


def folders(uri: str) -> list[str]:
    """Names of what lies directly below `uri` and has objects below itself: one request."""
    place = split(uri)
    with explained(uri):
        return list_folders(bucket(place.kind, place.bucket), place.key)


def list_folders(store: ObjectStore, key: str) -> list[str]:
    """The same with a client of one's own, whose errors pass as they are."""
    found = _obstore().list_with_delimiter(store, key or None)
    return [path.rstrip("/").rpartition("/")[2] for path in found["common_prefixes"]]


def write(uri: str, data: bytes) -> None:
    """Put an object, over what is there. Raises StoreError."""
    place = split(uri)
    with explained(uri):
        _obstore().put(bucket(place.kind, place.bucket), place.key, data)


def write_new(uri: str, data: bytes) -> bool:
    """Put an object unless there is one; of two at once one wins. Returns whether it was put.

    A reply that is lost may say False of what was put by this very call: who must know compares
    what is there with what it wrote.
    """
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    place = split(uri)
    try:
        with explained(uri):
            _obstore().put(bucket(place.kind, place.bucket), place.key, data, mode="create")
    except (AlreadyExistsError, PreconditionError):
        return False
    return True


def remove(uris: list[str]) -> None:
    """Objects that are not there are no error. Raises StoreError."""
    by_bucket: dict[tuple[str, str], list[str]] = {}
    for place in map(split, uris):
        by_bucket.setdefault((place.kind, place.bucket), []).append(place.key)
    for (kind, name), keys in by_bucket.items():
        with explained(f"{kind}://{name}"):
            _obstore().delete(bucket(kind, name), keys)


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Errors of the client as FileNotFoundError or a StoreError, in one line.

    That a conditional request was not done is no error to explain, and passes as it is.
    """
    from obstore.exceptions import (
        AlreadyExistsError,
        BaseError,
        NotFoundError,
        PermissionDeniedError,
        PreconditionError,
        UnauthenticatedError,
    )

    try:
        yield
    except (AlreadyExistsError, PreconditionError, StoreError):
        raise
    except (BaseError, OSError) as error:
        text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # The colours of delta-rs.
        if any(code in text for code in _NO_BUCKET):
            place = split(uri)
            raise NoBucket(f"{place.kind}://{place.bucket}", "no such bucket") from None
        if isinstance(error, (NotFoundError, FileNotFoundError)):
            raise FileNotFoundError(errno.ENOENT, "no such object", uri) from None
        refused = (PermissionDeniedError, UnauthenticatedError, PermissionError)
        if isinstance(error, refused) or is_refusal(text):
            raise StoreRefused(uri, f"access refused: {_line(text)}") from None
        raise StoreError(uri, _line(text)) from None


def is_refusal(text: str) -> bool:
    """Whether an error's text says that the store will not have us: no further try mends it."""
    return any(word in text for word in _REFUSALS)


_NO_BUCKET = ("<Code>NoSuchBucket<", "<Code>ContainerNotFound<", '"NoSuchBucket"')
_REFUSALS = (
    *("lacked the necessary privileges", "not authorized", "loading credentials"),
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"),
    *("403 Forbidden", "401 Unauthorized", "/latest/api/token", "/computeMetadata/"),
    "/metadata/identity/",
)
"""How a store, or a machine's own service that has no credentials for it, tells that it will not
have us."""


def _line(text: str) -> str:
    """What a client's error comes to: the store's own code and message, or the status, or how the
    connection failed; without addresses and times, which differ from one object to the next."""
    code = re.search(r"<Code>(.*?)</Code>(?:\s*<Message>(.*?)</Message>)?", text, re.DOTALL)
    if code:
        return " ".join(f"{code[1]}: {code[2] or ''}".split()).rstrip(":")[:300]
    if "without LOCATION" in text:
        return "the bucket is in another region; set AWS_REGION"
    if "invalid path" in text:
        return f"a key that cannot be listed: {text.partition('invalid path: ')[2].splitlines()[0]}"
    status = re.search(r"status code: (\d+ ?[A-Za-z ]*)", text)
    if status:
        return status[1].strip()
    if "Error performing" in text and "HTTP error" in text:
        tries = re.search(r"after (\d+) retries", text)
        how = text.rpartition("HTTP error:")[2].split("\n")[0].strip()
        return f"cannot be reached: {how}" + (f" ({tries[0]})" if tries else "")
    return " ".join(text.split("Debug source:")[0].split())[:300]


_BY_TIME = "@"


def _stat(place: Place, meta: Any) -> Stat:
    size = int(meta["size"])
    modified_s = meta["last_modified"].timestamp()
    # Not the version: listings do not have it.
    tag = (meta.get("e_tag") or "").strip('"') or f"{_BY_TIME}{modified_s}"
    uri = Place(place.kind, place.bucket, meta["path"]).uri
    return Stat(uri, size, f"{size}:{tag}", modified_s)


def _obstore() -> Any:
    import obstore

    return obstore
