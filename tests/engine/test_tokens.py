"""Where a token is found, and where a cluster is, before Ray is there to ask. What clusters say to
right and wrong tokens: tests/cluster."""

from __future__ import annotations

import pytest

from pipeline.engine.tokens import gcs_address, probe_gcs, read_token, token_place
from pipeline.errors import UsageError
from tests.cluster.heads import free_port


@pytest.fixture
def user(monkeypatch, tmp_path):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    return monkeypatch


def test_tokens_are_found_in_rays_order(user, tmp_path):
    assert read_token() == ""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("home\n")
    assert read_token() == "home"
    (tmp_path / "mine").write_text("mine\n")
    user.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "mine"))
    assert (read_token(), token_place()) == ("mine", str(tmp_path / "mine"))
    user.setenv("RAY_AUTH_TOKEN", "said")
    assert (read_token(), token_place()) == ("said", "RAY_AUTH_TOKEN")


def test_a_token_file_that_cannot_be_read_is_told(user, tmp_path):
    user.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path))
    with pytest.raises(UsageError, match=f"the token file {tmp_path} cannot be read: Is a dir"):
        read_token()
    user.setenv("RAY_AUTH_TOKEN_PATH", "/nowhere")
    with pytest.raises(UsageError, match="RAY_AUTH_TOKEN_PATH=/nowhere: no such file"):
        read_token()


def test_a_cluster_is_found_as_ray_finds_it(user, tmp_path):
    assert gcs_address("10.0.0.5:6379") == "10.0.0.5:6379"
    assert gcs_address("auto") is None
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("10.0.0.6:6379\n")
    assert gcs_address("auto") == "10.0.0.6:6379"
    user.setenv("RAY_ADDRESS", "10.0.0.7:6379")
    assert gcs_address("auto") == gcs_address(None) == "10.0.0.7:6379"
    for other in ("local", "ray://10.0.0.5:10001", "http://10.0.0.5:8265"):
        assert gcs_address(other) is None


def test_where_nobody_answers_nothing_is_known():
    assert probe_gcs(f"127.0.0.1:{free_port()}") == "unknown"
