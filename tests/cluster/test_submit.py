"""`ray submit` of cluster/submit.py: over ssh to a cluster of machines of one's own."""

from __future__ import annotations

import getpass
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cluster.submit import PREFIX
from pipeline.run_record import last_record
from tests.cluster.heads import BIN, ROOT, Head
from tests.cluster.sshd import HOST, Door, sshd, why_not

SCRIPT = ROOT / "cluster" / "submit.py"
PROBE = ROOT / "configs" / "probe.yaml"


@pytest.fixture(scope="module")
def door(cluster: Head, tmp_path_factory: pytest.TempPathFactory):
    reason = why_not()
    if reason:
        pytest.skip(f"ray submit: {reason}")
    kept = ("RAY_TMPDIR", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "PYTHONPATH")
    profile = {name: cluster.environment[name] for name in kept}
    with sshd(tmp_path_factory.mktemp("ssh"), profile) as opened:
        yield opened


@pytest.fixture(scope="module")
def launcher(cluster: Head, door: Door) -> Path:
    """A cluster file, brought `up`: its head is the one that runs already.

    Ray's own start commands begin with `ray stop`, which would end every Ray of this machine.
    """
    path = cluster.folder / "cluster.yaml"
    described = {
        "cluster_name": "own-machines",
        "provider": {"type": "local", "head_ip": HOST, "worker_ips": []},
        "auth": {"ssh_user": getpass.getuser(), "ssh_private_key": str(door.key)},
        "head_start_ray_commands": ["true"],
        "worker_start_ray_commands": [],
    }
    path.write_text(yaml.safe_dump(described))
    done = ray(cluster, door, "up", "--yes", str(path))
    assert done.returncode == 0, done.stdout
    return path


def ray(cluster: Head, door: Door, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of Ray's launcher, whose output goes to a file: ssh stays behind with a pipe."""
    log = cluster.folder / "launcher.log"
    with open(log, "wb") as file:
        done = subprocess.run(
            [str(BIN / "ray"), arguments[0], "--no-config-cache", *arguments[1:]],
            env=cluster.environment | {"PATH": f"{door.bin}:{cluster.environment['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=600,
            check=False,
        )
    return subprocess.CompletedProcess(arguments, done.returncode, log.read_text())


def test_ray_submit_ends_with_0_or_prints_the_record_of_what_failed(
    cluster, door, launcher, good, bad, tmp_path
):
    words = (str(launcher), str(SCRIPT), str(PROBE), str(tmp_path / "out"))
    video = tmp_path / "good.mp4"
    video.symlink_to(good)  # Its own name has a space, which no argument may have.
    done = ray(cluster, door, "submit", *words, str(video))
    assert done.returncode == 0, done.stdout
    record = last_record(done.stdout)
    assert (record["exit_code"], record["videos_ok"], record["frames"]) == (0, 1, 40)

    url = ("--", "--config-url", f"file://{PROBE}", str(tmp_path / "out"))
    again = ray(cluster, door, "submit", *words[:2], *url, str(bad), "--set=engine.name=local")
    assert again.returncode == 1  # Whatever went wrong.
    record = last_record(again.stdout)
    assert (record["exit_code"], record["videos_failed"]) == (3, 1)
    assert record["problems"][0]["uri"] == str(bad)


def submit(*arguments: object, **environment: str) -> tuple[int, dict[str, object], str]:
    """The script as a plain program: its exit code, the record of its last line, its errors."""
    done = subprocess.run(
        [sys.executable, "-I", str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )
    last = done.stdout.splitlines()[-1]
    assert last.startswith(PREFIX)
    return done.returncode, json.loads(last.removeprefix(PREFIX)), done.stderr


def test_a_python_without_the_package_is_told_in_one_line(tmp_path):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    done = subprocess.run(
        [str(bare / "bin" / "python"), "-I", str(SCRIPT), "c.yaml", "out"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"{bare}/bin/python (Python 3." in line
    assert "Ray is not installed; install frameledger" in line
    assert last_record(done.stdout)["exit_code"] == 2


def test_arguments_that_are_missing_or_strange_are_told_in_one_line():
    from cluster.submit import main

    for arguments, words in (
        ([], "CONFIG is missing"),
        (["c.yaml"], "OUTPUT is missing"),
        (["--config-url", "https://example.org/c.yaml"], "OUTPUT is missing"),
        (["c.yaml", "out", "--limit", "3", "v.mp4"], "what is"),
        (["--config-url", "http://example.org/c.yaml", "out"], "is fetched from https"),
    ):
        assert words in _error(main, arguments)


def _error(main, arguments: list[str]) -> str:
    import contextlib
    import io

    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = main(arguments)
    assert code == last_record(out.getvalue())["exit_code"] == 2
    assert len(errors.getvalue().splitlines()) == 1
    return errors.getvalue()
