"""Objects of a store: read, written once, listed as a stream. One client a bucket and process.

Retries are the client's own: server errors, throttling and lost connections are tried again with
exponential backoff and jitter. Credentials, region and endpoint come from the environment, as the
vendors' own tools read them (AWS_*, GOOGLE_*, AZURE_*; for S3 also profiles, where boto3 is
installed).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pipeline.errors import UsageError
from pipeline.storage.uris import Place, split

if TYPE_CHECKING:
    from obstore.store import ObjectStore

RETRIES = 10
RETRY_S = 120.0
"""A request is tried again so often, and no longer than so: above it the store is down."""
TIMEOUT_S = 60.0
"""Of one request, its body included."""
_LIST_CHUNK = 1000
"""Keys that a store lists at once."""


class StoreError(OSError):
    """A store that is away, refuses or fails; one line that names the URI."""


class StoreRefused(StoreError):
    """It does not accept the credentials, or they do not allow this: no try will mend it."""


@dataclass(frozen=True)
class Stat:
    """An object as a listing knows it."""

    uri: str
    size_bytes: int
    stamp: str
    """Differs when the bytes may differ: the size with the version, else the ETag."""
    modified_s: float
    """Seconds since 1970 by the store's clock."""


def stat(uri: str) -> Stat:
    """Raises FileNotFoundError, StoreError."""
    place = split(uri)
    with explained(uri):
        return _stat(place, _obstore().head(_bucket(place.kind, place.bucket), place.key))


def listed(uri: str) -> Iterator[Stat]:
    """Objects below `uri` by name, streamed: pages are asked for as they are consumed."""
    place = split(uri)
    prefix = place.key + "/" if place.key else None
    with explained(uri):
        pages = _obstore().list(_bucket(place.kind, place.bucket), prefix, chunk_size=_LIST_CHUNK)
        for page in pages:
            for meta in page:
                yield _stat(place, meta)


def read(uri: str) -> bytes:
    """A whole object. Raises FileNotFoundError, StoreError."""
    place = split(uri)
    with explained(uri):
        return bytes(_obstore().get(_bucket(place.kind, place.bucket), place.key).bytes())


def read_range(uri: str, start: int, stop: int) -> bytes:
    """Bytes [start, stop) of an object. Raises FileNotFoundError, StoreError."""
    place = split(uri)
    with explained(uri):
        store = _bucket(place.kind, place.bucket)
        return bytes(_obstore().get_range(store, place.key, start=start, end=stop))


def read_from(uri: str, start: int) -> bytes:
    """An object from byte `start`, which it has, to its end. Raises as `read`."""
    place = split(uri)
    with explained(uri):
        store, options = _bucket(place.kind, place.bucket), {"range": {"offset": start}}
        return bytes(_obstore().get(store, place.key, options=options).bytes())


def read_tail(uri: str, nbytes: int) -> tuple[bytes, int]:
    """(its last `nbytes` or all of it, its size): one request. Raises as `read`."""
    place = split(uri)
    with explained(uri):
        store = _bucket(place.kind, place.bucket)
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
        return list_folders(_bucket(place.kind, place.bucket), place.key)


def list_folders(store: ObjectStore, key: str) -> list[str]:
    """The same with a client of one's own, whose errors pass as they are."""
    found = _obstore().list_with_delimiter(store, key or None)
    return [path.rstrip("/").rpartition("/")[2] for path in found["common_prefixes"]]


def write(uri: str, data: bytes) -> None:
    """Put an object, over what is there. Raises StoreError."""
    place = split(uri)
    with explained(uri):
        _obstore().put(_bucket(place.kind, place.bucket), place.key, data)


def write_new(uri: str, data: bytes) -> bool:
    """Put an object unless there is one; of two at once one wins. Returns whether it was put.

    A reply that is lost may say False of what was put by this very call: who must know compares
    what is there with what it wrote.
    """
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    place = split(uri)
    try:
        with explained(uri):
            _obstore().put(_bucket(place.kind, place.bucket), place.key, data, mode="create")
    except (AlreadyExistsError, PreconditionError):
        return False
    return True


def remove(uris: list[str]) -> None:
    """Objects that are not there are no error. Raises StoreError."""
    by_bucket: dict[tuple[str, str], list[str]] = {}
    for place in map(split, uris):
        by_bucket.setdefault((place.kind, place.bucket), []).append(place.key)
    for (kind, bucket), keys in by_bucket.items():
        with explained(f"{kind}://{bucket}"):
            _obstore().delete(_bucket(kind, bucket), keys)


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Errors of the client as FileNotFoundError, StoreRefused or StoreError, in one line.

    That a conditional write was not made is no error to explain, and passes as it is.
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
    except (AlreadyExistsError, PreconditionError):
        raise
    except (NotFoundError, FileNotFoundError):
        raise FileNotFoundError(2, "no such object", uri) from None
    except (PermissionDeniedError, UnauthenticatedError, PermissionError) as error:
        raise StoreRefused(f"{uri}: access refused: {_line(error)}") from None
    except (BaseError, OSError) as error:
        line = _line(error)
        if is_refusal(line):
            raise StoreRefused(f"{uri}: access refused: {line}") from None
        raise StoreError(f"{uri}: {line}") from None


def is_refusal(text: str) -> bool:
    """Whether an error's text says that the store will not have us: no further try mends it."""
    return any(word in text for word in _REFUSALS)


_REFUSALS = (
    *("lacked the necessary privileges", "not authorized", "loading credentials"),
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"),
    *("403 Forbidden", "401 Unauthorized", "169.254.169.254"),
)
"""How a store, or the lack of any credentials (a machine's own service that is not there), tells
that it will not have us."""


def _line(error: BaseException) -> str:
    """The first line: what follows repeats it for programmers."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # The colours of delta-rs.
    return " ".join(text.split("Debug source:")[0].split())[:300] or type(error).__name__


def _stat(place: Place, meta: Any) -> Stat:
    size = int(meta["size"])
    tag = meta.get("version") or meta.get("e_tag") or str(meta["last_modified"].timestamp())
    return Stat(
        uri=Place(place.kind, place.bucket, meta["path"]).uri,
        size_bytes=size,
        stamp=f"{size}:{tag.strip(chr(34))}",
        modified_s=meta["last_modified"].timestamp(),
    )


def _obstore() -> Any:
    import obstore

    return obstore


@lru_cache(maxsize=64)
def _bucket(kind: str, bucket: str) -> ObjectStore:
    """The client of a bucket, with its connections."""
    return open_bucket(kind, bucket, RETRIES, RETRY_S, TIMEOUT_S)


def open_bucket(
    kind: str, bucket: str, retries: int, retry_s: float, timeout_s: float
) -> ObjectStore:
    """A new client. Raises UsageError where the environment does not tell enough to make one."""
    from obstore.store import AzureStore, GCSStore, S3Store

    more: dict[str, Any] = {
        "client_options": client_options(kind, timeout_s),
        "retry_config": {"max_retries": retries, "retry_timeout": timedelta(seconds=retry_s)},
    }
    try:
        if kind == "s3":
            provider = _profile()
            if provider is not None:
                more["credential_provider"] = provider
            return S3Store(bucket, **more)
        if kind == "gs":
            return GCSStore(bucket, **more)
        return AzureStore(bucket, **more)
    except Exception as error:  # Each vendor's client has errors of its own for what it is set to.
        raise UsageError(f"{kind}://{bucket}: cannot open the store: {_line(error)}") from None


def client_options(kind: str, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """How requests are made; plain HTTP only where the environment names such an endpoint."""
    return {
        "timeout": timedelta(seconds=timeout_s),
        "connect_timeout": timedelta(seconds=min(10.0, timeout_s)),
        "allow_http": endpoint(kind).startswith("http://"),
    }


def endpoint(kind: str) -> str:
    """The endpoint that the environment names in place of the vendor's own, "" for none."""
    names = {
        "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
        "gs": ("GOOGLE_BASE_URL",),
        "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
    }
    return next((os.environ[name] for name in names[kind] if os.environ.get(name)), "")


def _profile() -> Any:
    """Credentials of a profile (files below ~/.aws, single sign-on), which the client itself does
    not read; None where the environment has keys, or nothing speaks of a profile."""
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return None
    named = os.environ.get("AWS_PROFILE")
    files = [
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        os.environ.get("AWS_CONFIG_FILE", "~/.aws/config"),
    ]
    if not named and not any(os.path.exists(os.path.expanduser(name)) for name in files):
        return None
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        raise UsageError(
            "s3: credentials are in a profile, which takes boto3 to read: "
            "pip install boto3, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from None
    return Boto3CredentialProvider()
