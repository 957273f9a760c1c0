"""What many tests share: small real videos, and a Ray of the tests' own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from tests.object_store import ObjectStore, object_store

# Deadlines say how busy the machine is, not whether the code is right.
settings.register_profile("frameledger", deadline=None)
settings.load_profile("frameledger")

REAL_VIDEOS = Path(__file__).parents[1].parent / "shared" / "videos"
REAL_NAMES = ("01_dog.mp4", "05_default_juggle.mp4", "h265_video.mp4", "nasa_13013.mp4")


def has_detectron2() -> bool:
    return importlib.util.find_spec("detectron2") is not None


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("detectron2") and not has_detectron2():
        pytest.skip("Detectron2 is not installed (it is not on the package index)")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [
        r for r in terminalreporter.stats.get("skipped", []) if "Detectron2" in str(r.longrepr)
    ]
    if skipped:
        terminalreporter.write_line(
            f"NOT RUN: {len(skipped)} tests of the Detectron2 detector, since Detectron2 is not "
            "installed here",
            yellow=True,
        )


@pytest.fixture(params=REAL_NAMES)
def real_video(request) -> Path:
    path = REAL_VIDEOS / request.param
    if not path.exists():
        pytest.skip(f"the real video {request.param} is not here (../shared/videos)")
    return path


@pytest.fixture(scope="session")
def _server_of_all():
    with object_store() as server:
        yield server


@pytest.fixture(scope="module")
def _server(_server_of_all):
    _server_of_all.empty()
    return _server_of_all


@pytest.fixture
def store(_server, monkeypatch) -> ObjectStore:
    """A store that behaves, with its figures at 0 and this process's environment set to it. What
    tests put there stays for their module: within one, each has a prefix of its own."""
    for name, value in _server.environment.items():
        monkeypatch.setenv(name, value)
    _server.tell()
    return _server


@pytest.fixture(scope="session")
def ray_here():
    """A local Ray with a short temporary folder (its sockets have a length limit)."""
    ray = pytest.importorskip("ray")
    folder = tempfile.mkdtemp(prefix="fl-ray-", dir="/tmp")
    os.environ["RAY_TMPDIR"] = folder
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=256 * 2**20,
    )
    yield ray
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
