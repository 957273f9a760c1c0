"""cluster/README.md: what can be run is run, on a Ray of its own; the rest is parsed."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.ledger.reader import Ledger
from tests.cluster.commands import check_script
from tests.cluster.heads import BIN, ROOT, Head, free_port, head
from tests.cluster.how_to import README, Block, blocks
from tests.videos import make

SHELL = [block for block in blocks() if block.language == "sh"]


def one(text: str) -> Block:
    """The tested block that has this in it."""
    (found,) = (block for block in blocks() if block.tested and text in block.text)
    return found


@pytest.mark.parametrize("block", SHELL, ids=lambda block: f"line-{block.line}")
def test_commands_and_options_exist(block):
    assert check_script(block.text)


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("frameledger run config.yaml videos --output tables --bugdet 6h", "bugdet"),
        ("frameledger runn config.yaml", "frameledger runn: no such command"),
        ("ray up --yess cluster/aws.yaml", "yess"),
        ("ray job submitt -- python -m pipeline run", "ray job submitt: no such command"),
        ("ray job submit -- python -m pipeline run --limitt 3", "limitt"),
        ("ray submit c.yaml cluster/submit.py configs/coco.yaml", "names are missing"),
        ("ray submit c.yaml cluster/submit.py -- a.yaml tables --limitt=3", "limitt"),
        ("RAY_AUTH_MODE=token rai start", "rai: is not known here"),
    ],
)
def test_a_command_that_does_not_exist_is_told(command, problem):
    with pytest.raises(ValueError, match=re.escape(problem)):
        check_script(command)


def test_links_lead_to_files():
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text())
    assert len(links) > 10
    for link in links:
        assert link.startswith("http") or (README.parent / link).exists(), link


def test_every_file_is_named():
    text = README.read_text()
    for path in README.parent.rglob("*"):
        named = path.name in text or path.suffix in (".py", ".pyc", ".md") or path.is_dir()
        assert named or path.name == "Containerfile.dockerignore", path


def test_code_is_python():
    python = [block for block in blocks() if block.language == "python"]
    assert len(python) == 1
    ast.parse(python[0].text)


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A checkout with videos beside, and a `frameledger` on its own PATH."""
    folder = tmp_path_factory.mktemp("checkout")
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("pipeline", "cluster", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    (folder / "videos").mkdir()
    make(folder / "videos" / "a.mp4", 40)
    (folder / "bin").mkdir()
    command = folder / "bin" / "frameledger"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m pipeline "$@"\n')
    command.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def cluster(work):
    """The head of the how-to, with ports of its own."""
    _, ray, start, *options = shlex.split("X " + one("ray start --head").text)
    assert (ray, start) == ("ray", "start")
    kept = [word for word in options if not word.startswith(("--head", "--port=", "--metrics"))]
    with head(*kept, f"--metrics-export-port={free_port()}") as made:
        yield made


def bash(text: str, made: Head, work: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a block as a user of this cluster does, where its ports are the usual ones and it is the
    only one of the machine."""
    environment = made.environment | {"PATH": f"{work}/bin:{BIN}:{os.environ['PATH']}"} | more
    text = text.replace("http://127.0.0.1:8265", made.job_api)
    text = text.replace("--address auto", f"--address {made.gcs}")
    text = text.replace('ray.init("auto")', f'ray.init("{made.gcs}")')
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=work,
        env={key: value for key, value in environment.items() if value},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def test_the_token_is_for_its_owner_alone(tmp_path, cluster, work):
    block = one("ray get-auth-token")
    # As it is before there is a token: none in the environment, and an empty home.
    fresh = {"HOME": str(tmp_path), "RAY_AUTH_TOKEN_PATH": "", "RAY_AUTH_MODE": ""}
    done = bash(block.text, cluster, work, **fresh)
    assert done.returncode == 0, done.stderr
    token = tmp_path / ".ray" / "auth_token"
    assert len(token.read_text()) >= 32
    assert token.stat().st_mode & 0o777 == 0o600
    assert token.parent.stat().st_mode & 0o777 == 0o700
    assert token.read_text() not in done.stdout + done.stderr


def test_preflight(cluster, work):
    done = bash(one("frameledger preflight").text, cluster, work)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "authentication" in done.stdout


def test_every_way_in(cluster, work):
    first, *others = one("ray job submit").text.strip().splitlines()
    assert len(others) == 2
    for line in (first, *others):
        done = bash(line, cluster, work)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    rows = Ledger(str(work / "tables")).table("frames", columns=["frame_index"])
    assert sorted(rows["frame_index"].to_pylist()) == list(range(40))


def test_a_program_of_ones_own(cluster, work):
    block = one("ray.init")
    done = bash(f"python - <<'END'\n{block.text}END\n", cluster, work)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "0"


def test_a_stranger_is_refused(cluster, work):
    """The head that the how-to starts asks for the token."""
    line = f"ray job list --address {cluster.job_api}"
    stranger = {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN_PATH": ""}
    refused = bash(line, cluster, work, **stranger)
    assert refused.returncode != 0
    assert "authentication" in (refused.stdout + refused.stderr).lower()
    assert bash(line, cluster, work).returncode == 0
