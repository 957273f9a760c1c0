"""What tables on a store take: the options of delta-rs, and Arrow reading through `objects`.

Credentials are those that `objects` finds. delta-rs reads the same environment by itself; Arrow's
own clients for each vendor would each look elsewhere, so files are read through `objects`.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.fs as pa_fs

from pipeline.errors import UsageError
from pipeline.storage import clients, objects
from pipeline.storage.uris import Place, split

TAIL_BYTES = 256 * 2**10
"""Of a Parquet file, read when it is opened: most files of a commit are smaller, and of the others
it holds the footer."""


@lru_cache(maxsize=64)
def check_reachable(root: str) -> None:
    """Raise UsageError where the store of an output is away, refuses, or has no such bucket.

    Asked once, with few tries: a mistake in the call is told in seconds.
    """
    place = split(root)
    bucket = Place(place.kind, place.bucket, "").uri
    try:
        store = clients.open_bucket(place.kind, place.bucket, retries=3, retry_s=10, timeout_s=10)
        with objects.explained(root):
            objects.list_folders(store, place.key)
    except objects.StoreRefused as error:
        raise UsageError(
            f"output {root}: the store refuses access ({_reason(error)}); check the "
            f"credentials in the environment ({_CREDENTIALS[place.kind]}) and what they allow"
        ) from None
    except objects.NoBucket:
        raise UsageError(f"output {root}: there is no {bucket}; make it first") from None
    except objects.StoreError as error:
        where = clients.endpoint(place.kind)
        raise UsageError(
            f"output {root}: the store cannot be reached"
            f"{f' at {where}' if where else ''} ({_reason(error)})"
        ) from None


_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the machine's role",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or the machine's service account",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or a managed identity",
}


def _reason(error: objects.StoreError) -> str:
    return str(error.strerror).removeprefix("access refused: ")


def delta_options(root: str) -> dict[str, str]:
    """delta-rs's storage options of an output; what it finds in the environment is not in them."""
    kind = split(root).kind
    options = {
        "timeout": f"{clients.TIMEOUT_S:.0f}s",
        "connect_timeout": "10s",
        "max_retries": str(3 * clients.RETRIES),
        "retry_timeout": f"{clients.RETRY_S:.0f}s",
    }
    endpoint = clients.endpoint(kind)
    if endpoint.startswith("http://"):
        options["allow_http"] = "true"
    if kind == "s3" and endpoint:
        options["aws_endpoint_url"] = endpoint
    if kind == "s3" and clients.profile() is not None:
        # Where an endpoint is named delta-rs would not look for profiles, unless it is told to.
        options["AWS_FORCE_CREDENTIAL_LOAD"] = "true"
    return options


class ArrowFiles(pa_fs.FileSystemHandler):
    """Reads objects below a URI as Arrow's files: one request for a small one."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ArrowFiles) and other._uri == self._uri

    def __hash__(self) -> int:
        return hash(self._uri)

    def get_type_name(self) -> str:
        return "objects"

    def normalize_path(self, path: str) -> str:
        return path

    def open_input_file(self, path: str) -> pa.NativeFile:
        uri = f"{self._uri}/{path}"
        tail, size = objects.read_tail(uri, TAIL_BYTES)
        if len(tail) == size:
            return pa.BufferReader(tail)
        return pa.PythonFile(_Ranges(uri, size, tail), mode="r")

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return pa.BufferReader(objects.read(f"{self._uri}/{path}"))

    def get_file_info(self, paths: list[str]) -> list[pa_fs.FileInfo]:
        found = []
        for path in paths:
            try:
                size = objects.stat(f"{self._uri}/{path}").size_bytes
                found.append(pa_fs.FileInfo(path, pa_fs.FileType.File, size=size))
            except FileNotFoundError:
                found.append(pa_fs.FileInfo(path, pa_fs.FileType.NotFound))
        return found

    def _only_read(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("tables are written by the ledger")

    get_file_info_selector = create_dir = delete_dir = delete_dir_contents = _only_read
    delete_root_dir_contents = delete_file = move = copy_file = _only_read
    open_output_stream = open_append_stream = _only_read


class _Ranges:
    """A large object as a Python file. Its end, which was read when it was opened, is kept."""

    closed = False

    def __init__(self, uri: str, size: int, tail: bytes) -> None:
        self._uri = uri
        self._size = size
        self._tail = tail
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = start + offset
        return self._at

    def read(self, nbytes: int = -1) -> bytes:
        start = self._at
        stop = self._size if nbytes < 0 else min(start + nbytes, self._size)
        if stop <= start:
            return b""
        self._at = stop
        kept = self._size - len(self._tail)
        if start >= kept:
            return self._tail[start - kept : stop - kept]
        return objects.read_range(self._uri, start, stop)

    def close(self) -> None:
        self.closed = True
