"""Runs that write to an object store: what a user calls, in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from pipeline.ledger.folder import folder_at
from pipeline.ledger.gc import gc
from pipeline.ledger.reader import Ledger
from pipeline.ledger.runs import read_runs
from pipeline.ledger.status import status
from pipeline.ledger.verify import verify
from pipeline.preview import plan
from pipeline.runner import run
from tests.engine.test_engines import assert_equal_tables, probe
from tests.videos import make

LENGTHS = [120 + 7 * number for number in range(10)]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for length in LENGTHS:
        make(folder / f"{length}.mp4", length, gop=30)
    (folder / "broken.mp4").write_bytes(b"no video at all")
    return str(folder)


@pytest.fixture(scope="module")
def on_disk(videos, tmp_path_factory):
    output = tmp_path_factory.mktemp("disk") / "out"
    assert run(probe(), [videos], output, engine="local").exit_code == 3
    return output


def start(*args: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipeline", *args]
    env = os.environ | environment
    return subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run_to(output: str, videos: str, **environment: str) -> subprocess.Popen[str]:
    config = ("--set", "clip.length=8", "--set", "commit.seconds=0.5")
    engine = ("--engine", "local")
    return start("run", "configs/probe.yaml", videos, "-o", output, *engine, *config, **environment)


def plain_files(output: str) -> list[str]:
    """What is beside the tables."""
    return [name for name in folder_at(output).folders("") if name.startswith("_")]


def test_a_run_makes_the_tables_of_a_local_one_and_a_second_reads_little(
    server, remote, videos, on_disk
):
    summary = run(probe(), [videos], remote, engine="local")
    assert (summary.videos_ok, summary.videos_failed, summary.exit_code) == (10, 1, 3)
    assert sum(server.requests().values()) < 500
    assert_equal_tables(on_disk, remote)
    assert plain_files(remote) == []
    assert [one["state"] for one in read_runs(remote)] == ["ended"]

    before = folder_at(remote).listed("")
    server.tell()
    assert run(probe(), [videos], remote, engine="local").did_nothing
    assert sum(server.requests().values()) < 120
    assert server.bytes_read(remote.split("/")[2]) < 400_000
    assert folder_at(remote).listed("") == before

    server.tell()
    assert plan(probe(), [videos], remote).videos == {"done": 10, "failed": 1}
    assert "PUT" not in server.requests()
    assert status(remote).videos == {"ok": 10, "failed": 1}
    ended = read_runs(remote)[0]["run_id"]
    assert status(remote, ended).videos == {"ok": 10, "failed": 1}
    assert verify(remote).sound
    gc(remote, grace_hours=0)
    assert_equal_tables(on_disk, remote)


def test_killed_in_the_middle_and_run_again(remote, videos, on_disk):
    process = run_to(remote, videos)
    folder = folder_at(remote)
    until = time.monotonic() + 300
    while len(folder.listed("_journal")) < 6 and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert plain_files(remote) == ["_journal", "_runs"]
    whole = [entry for entry in folder.listed("_journal") if entry.size_bytes]
    assert whole
    again = run_to(remote, videos)
    said = again.communicate(timeout=600)
    assert again.returncode == 3, said
    assert_equal_tables(on_disk, remote)
    assert verify(remote).sound
    assert plain_files(remote) == []
    assert [one["state"] for one in read_runs(remote)] == ["died", "ended"]


def test_two_at_once_share_the_work(server, remote, videos, on_disk):
    server.tell(slow=0.02, seconds=0.2, fail=0.01, lose=0.01)
    both = [run_to(remote, videos) for _ in range(2)]
    for process in both:
        said = process.communicate(timeout=600)
        assert process.returncode == 3, said
    server.tell()
    assert_equal_tables(on_disk, remote)
    runs = read_runs(remote)
    assert sum(one["frames"] for one in runs) == sum(LENGTHS)  # Taken once, whoever took it.
    assert plain_files(remote) == []


def test_what_was_given_up_is_tried_again(remote, videos, tmp_path):
    broken = tmp_path / "v" / "later.mp4"
    broken.parent.mkdir()
    broken.write_bytes(b"no video at all")
    assert run(probe(), [str(broken)], remote, engine="local").videos_failed == 1
    stamp = os.stat(broken).st_mtime_ns
    make(broken, 20)
    os.utime(broken, ns=(stamp, stamp))
    summary = run(probe(), [str(broken)], remote, engine="local", retry_failed=True)
    assert (summary.videos_ok, summary.frames) == (1, 20)


@pytest.mark.parametrize(
    ("output", "environment", "words"),
    [
        ("s3://nobody/out", {}, "there is no s3://nobody; make it first"),
        ("s3://", {}, "names no bucket"),
        ("ftp://host/out", {}, "ftp:// is no store known here"),
        ("s3:/bucket/out", {}, "has lost a slash"),
        ("s3://tables/a#b", {}, "holds #"),
        ("s3://tables/out", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "cannot be reached at"),
        ("s3://tables/out", {"AWS_ENDPOINT_URL": ""}, "AWS_ENDPOINT_URL is empty"),
        ("s3://tables/out", {"refuse": "1"}, "refuses access (InvalidAccessKeyId: as told)"),
    ],
)
def test_an_output_that_cannot_be_used_is_told_in_one_line(
    server, videos, output, environment, words
):
    server.tell(refuse=1.0 if environment.pop("refuse", "") else 0.0)
    began = time.monotonic()
    process = run_to(output, videos, **environment)
    _, said = process.communicate(timeout=300)
    server.tell()
    assert process.returncode == 2, said
    assert said.startswith("frameledger: ")
    assert output.rpartition("/out")[0] in said
    assert words in said
    assert said.count("\n") == 1
    assert time.monotonic() - began < 30


def test_credentials_may_be_in_a_profile(server, remote, videos, tmp_path, monkeypatch):
    """Tables and the files beside them are asked for by two clients, which both have to see it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    (tmp_path / "keys").write_text(
        "[work]\naws_access_key_id = test\naws_secret_access_key = test\n"
    )
    (tmp_path / "config").write_text("[profile work]\nregion = us-east-1\n")
    process = run_to(
        remote,
        videos,
        AWS_PROFILE="work",
        AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "keys"),
        AWS_CONFIG_FILE=str(tmp_path / "config"),
    )
    said = process.communicate(timeout=600)
    assert process.returncode == 3, said
    monkeypatch.undo()
    assert_whole_run(remote)


def test_credentials_that_expire_end_the_run_in_one_line(server, remote, videos):
    process = run_to(remote, videos)
    folder = folder_at(remote)
    while not folder.listed("_journal"):
        time.sleep(0.05)
    server.tell(refuse=1.0)
    _, said = process.communicate(timeout=600)
    server.tell()
    assert process.returncode == 1
    # On a busy machine the run may have told how far it is before.
    (line,) = (line for line in said.splitlines() if " ended, clips " not in line)
    assert line.startswith("frameledger: ")
    assert remote in line
    assert "access" in line
    again = run_to(remote, videos)
    assert again.wait(600) == 3
    assert_whole_run(remote)


def assert_whole_run(output: str) -> None:
    assert verify(output).sound
    assert Ledger(output).table("frames").num_rows == sum(LENGTHS)
