"""URIs of objects (`s3://bucket/key`), told from local paths and taken apart. Opens nothing."""

from __future__ import annotations

import os
from typing import NamedTuple

from pipeline.errors import UsageError

SCHEMES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "azure": "az"}
"""What is taken, and the kind of store that it names."""


NO_BUCKET = "names no bucket; write SCHEME://BUCKET/KEY"


class Place(NamedTuple):
    """An object, or where objects begin, in a bucket (Azure: a container)."""

    kind: str
    """`s3`, `gs` or `az`."""
    bucket: str
    key: str
    """Without slashes at its ends; "" is the whole bucket."""

    @property
    def uri(self) -> str:
        return (
            f"{self.kind}://{self.bucket}/{self.key}"
            if self.key
            else f"{self.kind}://{self.bucket}"
        )


def is_remote(name: str) -> bool:
    """Whether `name` is a URI of an object store, and not a local path."""
    scheme, separator, _ = name.partition("://")
    return bool(separator) and scheme.lower() in SCHEMES


def unknown_scheme(name: str) -> str | None:
    """The scheme of a URI of no store known here; None for those that are, and for paths."""
    scheme, separator, _ = name.partition("://")
    if not separator or scheme.lower() in SCHEMES or not scheme.isalnum():
        return None
    return scheme


def names_bucket(uri: str) -> bool:
    """Whether a URI that `is_remote` is more than a scheme."""
    return uri.partition("://")[2][:1] not in ("", "/")


def split(uri: str) -> Place:
    """The parts of a URI that `is_remote`. Raises UsageError where it names no bucket."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise UsageError(f"{uri}: {NO_BUCKET}")
    return Place(SCHEMES[scheme.lower()], bucket, key.strip("/"))


def join(root: str, *parts: str) -> str:
    """What lies at `parts` below a folder or a URI."""
    if is_remote(root):
        return "/".join([root.rstrip("/"), *parts])
    return os.path.join(root, *parts)
