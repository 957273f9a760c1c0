"""Objects against a real server: what is there, and one clear line for what is not to be had."""

import os
import pickle
import socket
import subprocess
import sys
import time

import pytest

from pipeline.errors import UsageError, is_systemic
from pipeline.storage import clients, objects
from pipeline.storage.clients import endpoint
from pipeline.storage.objects import NoBucket, ObjectChanged, StoreError, StoreRefused

NAMES = ("a.mp4", "sub/b c.mp4", "%20.mp4", "ü#?&=+.mp4", ".hidden/c.mp4", "x[1]~.mp4", "b\\c*.mp4")


def test_listings_and_single_looks_agree(store):
    for name in NAMES:
        store.put("corpus", f"agree/{name}", name.encode())
    found = {stat.uri: stat for stat in objects.listed("s3://corpus/agree")}
    assert set(found) == {f"s3://corpus/agree/{name}" for name in NAMES}
    for uri, listed in found.items():
        looked = objects.stat(uri)
        assert (looked.stamp, looked.size_bytes) == (listed.stamp, listed.size_bytes)
        assert objects.read(uri).decode() == uri.removeprefix("s3://corpus/agree/")


def test_a_version_is_read_as_long_as_it_is_there(store):
    uri = "s3://corpus/version/a"
    store.put("corpus", "version/a", b"0123456789")
    before = objects.stat(uri)
    assert bytes(objects.read_version(uri, before.stamp, 2, 5)) == b"234"
    store.put("corpus", "version/a", b"9876543210")
    with pytest.raises(ObjectChanged, match="the file changed during the run") as raised:
        objects.read_version(uri, before.stamp, 2, 5)
    assert not is_systemic(raised.value)
    assert bytes(objects.read_version(uri, objects.stat(uri).stamp, 2, 5)) == b"765"
    store.delete("corpus", "version/a")
    with pytest.raises(FileNotFoundError) as raised:
        objects.read_version(uri, before.stamp, 2, 5)
    assert not is_systemic(raised.value)


def test_the_same_bytes_put_again_are_the_same_version(store):
    store.put("corpus", "again", b"12345")
    before = objects.stat("s3://corpus/again")
    store.put("corpus", "again", b"12345")
    assert objects.stat("s3://corpus/again").stamp == before.stamp


def test_a_bucket_that_does_not_exist(store):
    for ask in (
        lambda: list(objects.listed("s3://nobody/x")),
        lambda: objects.read("s3://nobody/x"),
        lambda: objects.write("s3://nobody/x", b""),
    ):
        with pytest.raises(NoBucket) as raised:
            ask()
        assert str(raised.value) == "s3://nobody: no such bucket"
        assert is_systemic(raised.value)


def test_refused_credentials(store):
    store.tell(refuse=1.0)
    for ask in (
        lambda: objects.stat("s3://corpus/x"),
        lambda: list(objects.listed("s3://corpus/x")),
        lambda: objects.read("s3://corpus/x"),
    ):
        with pytest.raises(StoreRefused, match=r"^s3://corpus/x: access refused: ") as raised:
            ask()
        assert "\n" not in str(raised.value)
        assert len(str(raised.value)) < 100
        assert is_systemic(raised.value)
        again = pickle.loads(pickle.dumps(raised.value))
        assert (type(again), str(again)) == (StoreRefused, str(raised.value))


def test_a_store_that_stumbles_is_asked_again(store):
    store.put("corpus", "stumbles", b"12345")
    store.tell(fail=0.3)
    assert [objects.read("s3://corpus/stumbles") for _ in range(20)] == [b"12345"] * 20
    assert store.tell()["corpus 503"]["requests"] > 0


def test_a_store_that_is_away(store, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(clients, "RETRIES", 2)
    with pytest.raises(StoreError) as raised:
        objects.read("s3://corpus/away")
    expected = "s3://corpus/away: cannot be reached: error sending request (after 2 retries)"
    assert str(raised.value) == expected
    assert is_systemic(raised.value)


def test_an_endpoint_is_taken_from_the_environment(store, monkeypatch):
    assert endpoint("s3") == store.endpoint
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://other")
    assert endpoint("s3") == "http://other"


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("s3://corpus/x", "AWS_ACCESS_KEY_ID"),
        ("gs://corpus/x", "GOOGLE_APPLICATION_CREDENTIALS"),
    ],
)
@pytest.mark.parametrize("service", ["nobody", "silent"])
def test_no_credentials_at_all_are_said_at_once(uri, named, service, tmp_path):
    """In a process of its own, where nothing is set but the address of the service that a machine
    in a cloud would have: one that nobody listens at, or that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        if service == "nobody":
            listening.close()
        clouds = ("AWS_", "GOOGLE_", "GCE_", "AZURE_")
        clean = {k: v for k, v in os.environ.items() if not k.startswith(clouds)}
        clean |= {
            "HOME": str(tmp_path),
            "AWS_METADATA_ENDPOINT": f"http://{address}",
            "GCE_METADATA_HOST": address,
        }
        code = f"from pipeline.storage import objects; objects.stat({uri!r})"
        started = time.monotonic()
        ended = subprocess.run(
            [sys.executable, "-c", code], env=clean, capture_output=True, text=True, timeout=300
        )
    last = ended.stderr.strip().splitlines()[-1]
    assert "UsageError" in last
    assert "no credentials on " in last
    assert named in last
    assert time.monotonic() - started < 20


def test_a_profile_that_is_not_there(store, monkeypatch, tmp_path):
    pytest.importorskip("boto3")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(UsageError, match="AWS_PROFILE = nobody"):
        objects.stat("s3://corpus/x")
