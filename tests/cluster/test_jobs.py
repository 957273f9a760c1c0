"""Runs as jobs of a cluster that asks for a token, by Ray's own command and by ours."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.cli import invoke
from tests.cluster.heads import BIN, ROOT, Head, frameledger
from tests.cluster.tunnel import Tunnel

PROBE = ROOT / "configs" / "probe.yaml"


def follow(cluster: Head, *arguments: object, output: Path) -> subprocess.Popen[str]:
    """`frameledger submit`, as a process that can be watched through the file `output`."""
    command = [sys.executable, "-m", "pipeline", "submit", *map(str, arguments)]
    with open(output, "w") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=log, env=cluster.environment, cwd=cluster.folder, text=True
        )


def wait_for(words: str, log: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(3000):
        if words in log.read_text():
            return
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise TimeoutError(f"{words!r} is not in {log.read_text()!r}")


def tunnel_to(cluster: Head) -> Tunnel:
    return Tunnel(int(cluster.job_api.rpartition(":")[2]))


def test_rays_own_job_command_sends_a_checkout_and_runs_it(cluster, good, bad, tmp_path):
    run = ["python", "-m", "pipeline", "run", "configs/probe.yaml"]
    done = subprocess.run(
        [
            *(str(BIN / "ray"), "job", "submit", "--address", cluster.job_api),
            *("--working-dir", str(ROOT), "--runtime-env-json", '{"env_vars":{"PYTHONPATH":""}}'),
            *("--", *run, str(bad.parent / "*.mp4"), "--output", str(tmp_path / "out")),
        ],
        env=cluster.environment,
        cwd=cluster.folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert "1 ok, 0 partial, 1 failed" in done.stdout
    # Ray's command makes 1 of every failure, and tells the code in words.
    assert "failed with exit code 3" in done.stdout
    assert done.returncode == 1


def test_a_client_that_died_is_taken_over_and_lost_connections_are_survived(
    cluster, good, tmp_path
):
    log, later = tmp_path / "log", tmp_path / "later"
    with tunnel_to(cluster) as tunnel:
        inputs = (good, "--output", tmp_path / "o u t", "--address", tunnel.url)
        first = follow(cluster, PROBE, *inputs, "--working-dir", ROOT, output=log)
        wait_for(": running", log, first)
        first.send_signal(signal.SIGKILL)
        first.wait()
        (job,) = re.findall("job (.*): submitted", log.read_text())
        second = follow(cluster, "--follow", job, "--address", tunnel.url, output=later)
        wait_for(": running", later, second)
        tunnel.cut()
        wait_for("lost the cluster", later, second)
        tunnel.mend()
        code = second.wait(300)
    told = later.read_text()
    assert code == 0, told
    assert "the cluster is there again" in told
    assert "exit 0; 1 ok, 0 partial, 0 failed, 40 frames (by its record in the output)" in told
    assert "Traceback" not in told


def test_the_runs_own_code_and_record_count_where_the_cluster_is_gone(cluster, bad, tmp_path):
    log = tmp_path / "log"
    with tunnel_to(cluster) as tunnel:
        inputs = (bad, "--output", tmp_path / "out", "--set", "engine.name=local")
        process = follow(cluster, PROBE, *inputs, "--address", tunnel.url, output=log)
        wait_for(": running", log, process)
        tunnel.cut()
        code = process.wait(450)
    assert code == 3, log.read_text()
    last = log.read_text().splitlines()[-1]
    assert "exit 3; 0 ok, 0 partial, 1 failed, 0 frames (by its record in the output)" in last


def test_a_run_without_a_record_is_known_by_what_it_printed_last(cluster, tmp_path):
    inputs = ("/nowhere.mp4", "--output", tmp_path / "out", "--address", cluster.job_api)
    done = frameledger(cluster, "submit", PROBE, *inputs)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.endswith("/nowhere.mp4: no such file or folder (by what it printed last)")


@pytest.fixture
def as_user(cluster, monkeypatch):
    """This process with the variables of a user of the cluster."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, cluster.environment[name])
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("RAY_AUTH_TOKEN", "wrong", "does not accept the token of RAY_AUTH_TOKEN"),
        ("RAY_AUTH_TOKEN_PATH", "/nowhere", "RAY_AUTH_TOKEN_PATH=/nowhere: no such file"),
        ("RAY_AUTH_MODE", "disabled", "set RAY_AUTH_MODE=token (it is disabled)"),
    ],
)
def test_a_token_that_is_not_the_clusters_is_told_in_one_line(cluster, as_user, name, value, words):
    as_user.setenv(name, value)
    code, error = invoke(["submit", "--follow", "x", "--address", cluster.job_api])
    assert (code, error.count("\n")) == (2, 0)
    assert words in error


def test_a_run_without_a_token_is_told_so_in_one_line(cluster, good, tmp_path):
    arguments = (PROBE, good, "--output", tmp_path / "out", "--address", cluster.gcs)
    done = frameledger(cluster, "run", *arguments, RAY_AUTH_TOKEN_PATH="", RAY_AUTH_MODE="")
    assert (done.returncode, done.stdout) == (2, "")
    assert "asks for a token, and there is none: set RAY_AUTH_TOKEN_PATH" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_mistakes_are_told_before_anything_is_sent(cluster, as_user, good):
    there = ("--address", cluster.job_api)
    for arguments, words in (
        ((PROBE, good, "--output", "tables", *there), "tables: is relative"),
        ((PROBE, good, *there), "no output given"),
        ((PROBE, "--output", "/x", *there), "no input given"),
        ((PROBE, good, "--output", "/x", "--address", "127.0.0.1:1"), "the job API is wanted"),
        ((PROBE, good, "--output", "/x", "--address", "http://127.0.0.1:1"), "no job API"),
        (("--follow", "frameledger-none", *there), "no such job: frameledger-none"),
        ((PROBE, "--follow", "frameledger-none", *there), "give CONFIG to submit"),
        ((PROBE, good, "--output", "/x", "--working-dir", "/tmp", *there), "no checkout"),
    ):
        code, error = invoke(["submit", *map(str, arguments)])
        assert (code, error.count("\n")) == (2, 0)
        assert words in error
