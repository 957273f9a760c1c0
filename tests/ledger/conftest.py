from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ledger.cleaning import many_commits
from tests.ledger.corpus import open_writer, write_video
from tests.object_store import ObjectStore, object_store, used_here


@pytest.fixture
def output(tmp_path: Path) -> str:
    """An output with three videos, one of them with a frame that could not be decoded."""
    path = tmp_path / "out put ü"
    with open_writer(path) as writer:
        write_video(writer, "a")
        write_video(writer, "b", frames=33)
        write_video(writer, "c", frames=20, lost=frozenset({6}))
    return str(path)


@pytest.fixture
def busy(tmp_path: Path) -> str:
    """An output of four videos, each committed by a run of its own."""
    output = str(tmp_path / "o ü")
    many_commits(output)
    return output


@pytest.fixture(scope="package")
def server() -> Iterator[ObjectStore]:
    """An S3-compatible server, which the environment names."""
    with object_store() as store, used_here(store):
        yield store


@pytest.fixture
def remote(server: ObjectStore) -> Iterator[str]:
    """An output on the server that nobody has used."""
    # Of its own, since the server looks through all of a bucket for every listing.
    bucket = f"tables-{uuid.uuid4().hex[:8]}"
    server.make_bucket(bucket)
    server.tell()
    yield f"s3://{bucket}/out put ü"
    server.tell()


@pytest.fixture(params=["disk", "store"])
def anywhere(request, tmp_path: Path) -> str:
    """An output that nobody has used, in a folder and on the server."""
    if request.param == "store":
        return request.getfixturevalue("remote")
    return str(tmp_path / "out")
