"""Configurations that are fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config_file import load_config
from pipeline.config_url import MOST_BYTES, fetch_config
from pipeline.errors import ConfigError
from tests.object_store import object_store

PROBE = Path(__file__).parents[1] / "configs" / "probe.yaml"


def test_from_a_file_and_from_the_url_itself(tmp_path):
    path = fetch_config(PROBE.as_uri(), str(tmp_path))
    assert Path(path) == tmp_path / "probe.yaml"
    assert load_config(path) == load_config(PROBE)
    path = fetch_config(
        "data:application/yaml,embedder%3A%20%7Bbackend%3A%20probe%7D", str(tmp_path)
    )
    assert load_config(path) == load_config(PROBE)


def test_from_an_object_store(tmp_path, monkeypatch):
    with object_store() as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        store.put("corpus", "settings/probe.yaml", PROBE)
        path = fetch_config("s3://corpus/settings/probe.yaml", str(tmp_path))
        assert load_config(path) == load_config(PROBE)
        with pytest.raises(ConfigError, match="configuration: no such object"):
            fetch_config("s3://corpus/none.yaml", str(tmp_path))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.org/c.yaml", "is fetched from https"),
        ("ftp://example.org/c.yaml", "is fetched from https"),
        ("c.yaml", "is fetched from https"),
        ("file:///nowhere/c.yaml", "cannot read the configuration"),
        ("https://127.0.0.1:1/c.yaml", "cannot read the configuration"),
        ("data:,%00", "not YAML"),
    ],
)
def test_what_cannot_be_fetched_is_told_with_its_url(tmp_path, url, words):
    with pytest.raises(ConfigError, match=words) as told:
        load_config(fetch_config(url, str(tmp_path)))
    assert "\n" not in str(told.value)


def test_what_is_too_large_to_be_one_is_not_taken(tmp_path):
    large = tmp_path / "video.yaml"
    large.write_bytes(b"x" * (MOST_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        fetch_config(large.as_uri(), str(tmp_path))
