"""`frameledger preflight` on a real cluster that is well, and on one with a fault of every kind."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from tests.cluster.heads import ROOT, Head, frameledger, head
from tests.object_store import object_store

CONFIG = ROOT / "configs" / "demo.yaml"
MODELS = ROOT / "pipeline" / "demo" / "models"


def states(path: Path) -> dict[str, str]:
    return {row["name"]: row["state"] for row in json.loads(path.read_text())}


def found(path: Path, name: str) -> str:
    return next(row["found"] for row in json.loads(path.read_text()) if row["name"] == name)


def test_a_healthy_cluster_passes_in_under_20_s(cluster, good, tmp_path):
    out, said = tmp_path / "new" / "tables", tmp_path / "said.json"
    arguments = ("--output", out, "--json", said, "--address", cluster.gcs)
    started = time.monotonic()
    done = frameledger(cluster, "preflight", CONFIG, good, *arguments)
    took = time.monotonic() - started
    assert done.returncode == 0, done.stdout + done.stderr
    # A container may have little shared memory, a small machine little disk: warnings both.
    assert {name for name, state in states(said).items() if state != "ok"} <= {
        "disk",
        "object store",
    }
    assert found(said, "nodes") == "2 alive: 3 CPUs, 0 GPUs"
    assert found(said, "models") == "detector, embedder: the same on every node"
    assert found(said, "job API") == "refuses callers without the token (401)"
    assert found(said, "output") == f"{out}: written and read by every node"
    assert took < 20
    # Nothing stays of what was written.
    assert not out.parent.exists()
    assert done.stdout.splitlines()[-1].startswith("ready: 0 failed, ")


def test_from_elsewhere_it_goes_through_the_job_api(cluster):
    done = frameledger(cluster, "preflight", CONFIG, "--address", cluster.job_api)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "models          ok" in done.stdout
    assert "ready: 0 failed, " in done.stdout


@pytest.fixture(scope="module")
def other_version(tmp_path_factory) -> Path:
    """A folder with another version of the package, and with a clock that is a minute ahead."""
    folder = tmp_path_factory.mktemp("other")
    left_out = shutil.ignore_patterns("__pycache__", "models")
    shutil.copytree(ROOT / "pipeline", folder / "pipeline", ignore=left_out)
    shutil.copytree(ROOT / "cluster", folder / "cluster", ignore=left_out)
    (folder / "pipeline" / "demo" / "models").symlink_to(MODELS)
    init = folder / "pipeline" / "__init__.py"
    init.write_text(init.read_text().replace('__version__ = "0', '__version__ = "99'))
    (folder / "sitecustomize.py").write_text(
        "import time\nright = time.time\ntime.time = lambda: right() + 60\n"
    )
    return folder


@pytest.fixture(scope="module")
def sick(other_version: Path):
    """A cluster without a token, and a node on which little is as it is on the head."""
    with object_store() as store, head(token=False, **store.environment) as made:
        store.put("corpus", "a.mp4", b"not looked into")
        made.join(
            *("--num-cpus=1", "--num-gpus=1", "--object-store-memory=80000000"),
            PYTHONPATH=str(other_version),
            HOME=str(made.folder / "another home"),
            # An address where something else answers.
            AWS_ENDPOINT_URL=made.job_api,
        )
        (made.folder / "home" / "weights").symlink_to(MODELS / "detector")
        yield made, store


def test_every_fault_is_named_by_its_check(sick: tuple[Head, object], good, tmp_path):
    made, store = sick
    said = tmp_path / "said.json"
    options = ("--set", "detector.model=~/weights", "--json", said, "--address", made.gcs)
    done = frameledger(
        made,
        "preflight",
        CONFIG,
        "s3://corpus/a.mp4",
        "--output",
        "s3://tables/x",
        *options,
        **store.environment,
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert states(said) | {"disk": "ok"} == {
        "nodes": "ok",
        "ray": "ok",
        "python": "ok",
        "frameledger": "failed",
        "authentication": "failed",
        "job API": "failed",
        "GPUs": "failed",
        "models": "failed",
        "input": "failed",
        "output": "failed",
        "disk": "ok",
        "object store": "failed",
        "clock": "failed",
    }
    assert ": 99.1.0 (code " in found(said, "frameledger")
    assert "runs code on every node" in found(said, "authentication")
    assert "offers 1, torch sees 0" in found(said, "GPUs")
    assert "weights: no such folder" in found(said, "models")
    assert "input s3://corpus/a.mp4: access refused" in found(said, "input")
    assert "s3://tables/x/.preflight-" in found(said, "output")
    assert "76 MiB; 128 MiB are needed" in found(said, "object store")
    assert "60.0 s ahead" in found(said, "clock")
    assert "NOT READY: 9 failed" in done.stdout
    # The head is none of those.
    assert "(head):" not in done.stdout
