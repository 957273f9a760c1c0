"""Runs at work in one output know of each other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from pipeline.errors import RunAborted
from pipeline.ledger.leases import EXPIRES_S, FOLDER, Lease, dead_runs, forget, live_runs

HOLD = """
import sys, time
from pipeline.ledger.leases import Lease
lease = Lease(sys.argv[1], "other", "work")
lease.take("/a.mp4")
print("taken", flush=True)
time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """A process that has taken /a.mp4."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "taken\n"
    yield process
    process.kill()
    process.wait()


def test_what_another_has_taken_is_left_to_it(tmp_path, other):
    lease = Lease(str(tmp_path), "mine", "work")
    assert not lease.take("/a.mp4")
    assert lease.take("/b.mp4")
    assert lease.others_hold(["/a.mp4"])
    assert live_runs(str(tmp_path)) == {"mine", "other"}
    lease.close()
    assert live_runs(str(tmp_path)) == {"other"}


def test_what_a_dead_run_had_taken_is_free_at_once(tmp_path, other):
    lease = Lease(str(tmp_path), "mine", "work")
    assert not lease.take("/a.mp4")
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert dead_runs(str(tmp_path)) == {"other"}
    assert not lease.others_hold(["/a.mp4"])
    assert lease.take("/a.mp4")
    lease.close()
    forget(str(tmp_path), "other")
    assert not (tmp_path / FOLDER).exists()


def test_other_work_with_the_same_video_is_let_be(tmp_path, other):
    lease = Lease(str(tmp_path), "mine", "other work")
    assert lease.take("/a.mp4")
    lease.close()


def test_what_is_released_need_not_be_waited_for(tmp_path):
    one, two = (Lease(str(tmp_path), name) for name in ("one", "two"))
    assert one.take("/a.mp4")
    assert not two.take("/a.mp4")
    one.release()
    assert not two.others_hold(["/a.mp4"])
    assert two.take("/a.mp4")
    assert not one.take("/a.mp4")
    one.close()
    two.close()


def test_a_run_on_another_host_is_dead_once_it_is_silent(tmp_path):
    lease = Lease(str(tmp_path), "mine")
    lease.open()
    path = tmp_path / FOLDER / "mine" / "lease.json"
    said = json.loads(path.read_text()) | {"host": "elsewhere"}
    path.write_text(json.dumps(said))
    assert live_runs(str(tmp_path)) == {"mine"}
    silent = path.stat().st_mtime - EXPIRES_S - 1
    os.utime(path, (silent, silent))
    assert dead_runs(str(tmp_path)) == {"mine"}
    lease.close()


def test_a_lease_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / FOLDER).write_text("a file")
    with pytest.raises(RunAborted, match="cannot write"):
        Lease(str(tmp_path), "mine").open()
