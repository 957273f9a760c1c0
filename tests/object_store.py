"""An S3-compatible server in a process of its own, which counts bytes and can be told to fail.

with object_store() as store:
    store.environment   what a client's environment needs; bucket `corpus` is there
    store.tell(fail=0.05, slow=0.1, seconds=0.2)
    store.figures()     requests and bytes by bucket and method
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CONTROL = "/-/control"
BUCKETS = ("corpus", "tables")


@dataclass
class Behaviour:
    """What the server is told to do wrong; shares are of all requests."""

    fail: float = 0.0
    """Answered with 503 SlowDown and not done."""
    lose: float = 0.0
    """Done, and answered with 503."""
    slow: float = 0.0
    seconds: float = 0.0
    refuse: float = 0.0
    """Answered with 403 InvalidAccessKeyId."""


@dataclass
class Wrapped:
    """The server's WSGI application between the socket and moto."""

    app: Callable[..., Iterable[bytes]]
    behaviour: Behaviour = field(default_factory=Behaviour)
    figures: dict[str, dict[str, int]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == CONTROL:
            return self._control(environ, start)
        how = self.behaviour
        with self.lock:
            rolls = [self.chance.random() for _ in range(4)]
        if rolls[0] < how.slow:
            time.sleep(how.seconds)
        if rolls[1] < how.fail:
            return self._count(environ, "503", self._say(start, "503 Slow Down", "SlowDown"))
        if rolls[2] < how.refuse:
            return self._say(start, "403 Forbidden", "InvalidAccessKeyId")
        said: list[Any] = []
        body = list(self.app(environ, lambda *answer: said.append(answer)))
        if rolls[3] < how.lose:
            return self._count(environ, "503", self._say(start, "503 Slow Down", "SlowDown"))
        start(*said[-1])
        return self._count(environ, environ["REQUEST_METHOD"], body)

    def _say(self, start: Callable[..., Any], status: str, code: str) -> list[bytes]:
        start(status, [("Content-Type", "application/xml")], None)
        return [f"<Error><Code>{code}</Code><Message>as told</Message></Error>".encode()]

    def _count(self, environ: dict[str, Any], kind: str, body: list[bytes]) -> list[bytes]:
        bucket = environ["PATH_INFO"].strip("/").split("/")[0]
        key = bucket if kind != "GET" or "list-type" not in environ["QUERY_STRING"] else "listing"
        key = f"{bucket} {'LIST' if key == 'listing' else kind}"
        sent = int(environ.get("CONTENT_LENGTH") or 0) if kind == "PUT" else sum(map(len, body))
        with self.lock:
            entry = self.figures.setdefault(key, {"requests": 0, "bytes": 0})
            entry["requests"] += 1
            entry["bytes"] += sent
        return body

    def _control(self, environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        with self.lock:
            answer = json.dumps(self.figures).encode()
            if environ["REQUEST_METHOD"] == "PUT":
                told = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
                self.behaviour = Behaviour(**json.loads(told))
                self.figures = {}
        start("200 OK", [("Content-Type", "application/json")])
        return [answer]


@dataclass(frozen=True)
class ObjectStore:
    """A client's view of a running server."""

    endpoint: str
    process: subprocess.Popen[bytes]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def empty(self) -> None:
        """Nothing is left but empty buckets, and it behaves."""
        self._request("POST", "/moto-api/reset")
        for bucket in BUCKETS:
            self.make_bucket(bucket)
        self.tell()

    def make_bucket(self, bucket: str) -> None:
        self._request("PUT", f"/{bucket}")

    def put(self, bucket: str, key: str, data: bytes | Path) -> None:
        body = data.read_bytes() if isinstance(data, Path) else data
        self._request("PUT", f"/{bucket}/{key}", body)

    def delete(self, bucket: str, key: str) -> None:
        self._request("DELETE", f"/{bucket}/{key}")

    def tell(self, **behaviour: float) -> dict[str, dict[str, int]]:
        """Change its behaviour; figures begin anew, those so far are returned."""
        figures = self._request("PUT", CONTROL, json.dumps(behaviour).encode())
        return dict(json.loads(figures))

    def figures(self) -> dict[str, dict[str, int]]:
        """ "BUCKET METHOD" (LIST apart from GET, answers with 503 as "503") -> requests, bytes."""
        return dict(json.loads(self._request("GET", CONTROL)))

    def requests(self) -> dict[str, int]:
        """Requests by method since the last word, answers with 503 among them."""
        found: dict[str, int] = {}
        for key, figure in self.figures().items():
            kind = key.rpartition(" ")[2]
            found[kind] = found.get(kind, 0) + figure["requests"]
        return found

    def bytes_read(self, bucket: str) -> int:
        """Bytes of bodies sent for GET requests of objects."""
        return self.figures().get(f"{bucket} GET", {"bytes": 0})["bytes"]

    def _request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        quoted = urllib.request.quote(path)  # type: ignore[attr-defined]
        request = urllib.request.Request(
            self.endpoint + quoted,
            data=body,
            method=method,
            headers={
                "Content-Type": "application/octet-stream",
                # Of a user: what is there may not be overwritten by just anybody.
                "Authorization": "AWS4-HMAC-SHA256 Credential=test/1/us-east-1/s3/aws4_request",
            },
        )
        with urllib.request.urlopen(request, timeout=300) as answer:
            return bytes(answer.read())


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """A server with empty buckets; gone, with all that it held, at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.object_store"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[1],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        store = ObjectStore(f"http://127.0.0.1:{port}", process)
        store.empty()
        yield store
    finally:
        process.kill()
        process.wait()


@contextmanager
def used_here(store: ObjectStore) -> Iterator[None]:
    """This process's clients, and those of processes that it starts, are the server's."""
    from pipeline.ledger import folder
    from pipeline.storage import clients, tables

    before = dict(os.environ)
    kept = (folder._on_store, clients._bucket, tables.check_reachable)
    os.environ.update(store.environment)
    try:
        for cache in kept:
            cache.cache_clear()
        yield
    finally:
        for cache in kept:
            cache.cache_clear()
        os.environ.clear()
        os.environ.update(before)


def main() -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app = Wrapped(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
