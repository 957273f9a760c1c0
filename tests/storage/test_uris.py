"""URIs told from paths, and taken apart."""

import pytest

from pipeline.errors import UsageError
from pipeline.storage.uris import Place, is_remote, join, names_bucket, split, unknown_scheme


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("s3://b/x/y.mp4", Place("s3", "b", "x/y.mp4")),
        ("S3A://b/x/", Place("s3", "b", "x")),
        ("gcs://b", Place("gs", "b", "")),
        ("azure://c/a b/%20.mp4", Place("az", "c", "a b/%20.mp4")),
    ],
)
def test_what_is_a_uri_of_a_store(uri, place):
    assert is_remote(uri)
    assert unknown_scheme(uri) is None
    assert split(uri) == place
    assert split(place.uri) == place


@pytest.mark.parametrize("path", ["/a/b.mp4", "a.mp4", "s3:/b/x", "a:b.mp4", "file:a", "c a://b"])
def test_what_is_a_path(path):
    assert not is_remote(path)
    assert unknown_scheme(path) is None


@pytest.mark.parametrize("uri", ["http://h/a.mp4", "file:///a.mp4", "hdfs://n/a"])
def test_what_is_neither(uri):
    assert not is_remote(uri)
    assert unknown_scheme(uri) == uri.split(":")[0]


@pytest.mark.parametrize("uri", ["s3://", "s3:///x"])
def test_a_uri_without_a_bucket(uri):
    assert not names_bucket(uri)
    with pytest.raises(UsageError, match="names no bucket"):
        split(uri)


def test_join():
    assert join("s3://b/", "x", "y") == "s3://b/x/y"
    assert join("/a", "x") == "/a/x"
