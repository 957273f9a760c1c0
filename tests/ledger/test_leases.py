"""Runs at work in one output know of each other."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from itertools import islice

import pytest

from pipeline.errors import RunAborted
from pipeline.ledger import alive, leases
from pipeline.ledger.alive import FOLDER, dead_runs, forget, live_runs
from pipeline.ledger.folder import folder_at
from pipeline.ledger.leases import Lease

HOLD = """
import sys, time
from pipeline.ledger.leases import Lease
lease = Lease(sys.argv[1], "other", "work")
lease.take("/a.mp4")
print("taken", flush=True)
time.sleep(60)
"""


@pytest.fixture
def other(anywhere):
    """A process that has taken /a.mp4."""
    command = [sys.executable, "-c", HOLD, anywhere]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "taken\n"
    yield process
    process.kill()
    process.wait()


def test_what_another_has_taken_is_left_to_it(anywhere, other):
    lease = Lease(anywhere, "mine", "work")
    assert not lease.take("/a.mp4")
    assert lease.take("/b.mp4")
    assert lease.others_hold(["/a.mp4"])
    assert live_runs(anywhere) == {"mine", "other"}
    lease.close()
    assert live_runs(anywhere) == {"other"}


def test_what_a_dead_run_had_taken_is_free_at_once(anywhere, other):
    lease = Lease(anywhere, "mine", "work")
    assert not lease.take("/a.mp4")
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert dead_runs(anywhere) == {"other"}
    assert not lease.others_hold(["/a.mp4"])
    assert lease.take("/a.mp4")
    lease.close()
    forget(anywhere, "other")
    assert folder_at(anywhere).folders("") == []


def test_other_work_with_the_same_video_is_let_be(anywhere, other):
    lease = Lease(anywhere, "mine", "other work")
    assert lease.take("/a.mp4")
    lease.close()


def test_what_is_released_need_not_be_waited_for(anywhere):
    one, two = (Lease(anywhere, name) for name in ("one", "two"))
    assert one.take("/a.mp4")
    assert not two.take("/a.mp4")
    one.release()
    assert not two.others_hold(["/a.mp4"])
    assert two.take("/a.mp4")
    assert not one.take("/a.mp4")
    one.close()
    two.close()


@pytest.mark.parametrize("end", ["released", "closed", "killed"])
def test_what_others_had_is_asked_of_the_books_before_it_is_taken(anywhere, end):
    """They may have done it since the books were read."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, anywhere], stdout=subprocess.PIPE, text=True
    )
    lease, third = Lease(anywhere, "mine", "work"), Lease(anywhere, "third", "work")
    assert process.stdout is not None
    assert process.stdout.readline() == "taken\n"
    assert third.take("/b.mp4")
    assert lease.take("/c.mp4")  # Has seen what the others had by now.
    if end == "killed":
        process.kill()
        process.wait()
        assert not lease.take("/a.mp4")
        assert lease.take("/a.mp4")
    else:
        third.release() if end == "released" else third.close()
        assert not lease.take("/b.mp4")
        assert lease.take("/b.mp4")
    process.kill()
    process.wait()
    third.close()
    lease.close()


def test_many_are_taken_at_once_on_a_store(server, remote):
    """Short videos cost a few requests a second, not some each."""
    one, two = Lease(remote, "one"), Lease(remote, "two")
    uris = [f"/{number}.mp4" for number in range(20_000)]
    rest = iter(uris)
    server.tell()
    while group := list(islice(rest, one.at_once)):
        assert one.take_all(group) == set(group)
    assert sum(server.requests().values()) < 400
    assert two.take_all([*uris[::1000], "/other.mp4"]) == {"/other.mp4"}
    # Objects are filled before the next is begun: 320,000 bytes in 5, besides the lease itself.
    assert len(folder_at(remote).listed(f"{FOLDER}/one")) == 6
    assert [one.at_once, Lease("/tmp", "x").at_once] == [256, 1]
    one.close()
    two.close()


def test_of_two_that_take_groups_at_once_one_gets_each(remote):
    uris = [f"/{number}.mp4" for number in range(400)]
    leases = [Lease(remote, name) for name in ("one", "two")]
    taken: list[list[str]] = [[], []]

    def take(which: int) -> None:
        rest = iter(uris)
        while group := list(islice(rest, leases[which].at_once)):
            taken[which] += leases[which].take_all(group)

    threads = [threading.Thread(target=take, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for lease in leases:
        lease.close()
    assert sorted(taken[0] + taken[1]) == sorted(uris)


def test_of_runs_on_a_slow_store_one_gets_each(server, remote):
    """Any request may take longer than those of another run from its first to its last."""
    uris = [f"/{number}.mp4" for number in range(6)]
    leases = [Lease(remote, name) for name in ("one", "three", "two")]
    for lease in leases:
        lease.open()
    taken: list[list[str]] = [[] for _ in leases]

    def take(which: int) -> None:
        for uri in uris:
            taken[which] += leases[which].take_all([uri])

    server.tell(slow=0.3, seconds=0.8)
    threads = [threading.Thread(target=take, args=(which,)) for which in range(len(leases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.tell()
    for lease in leases:
        lease.close()
    assert sorted(uri for one in taken for uri in one) == uris


@pytest.mark.parametrize(("asks", "gets"), [("zzz", True), ("aaa", False)])
def test_a_run_that_asks_and_never_settles(anywhere, monkeypatch, asks, gets):
    """Of a later id it is waited for, for a time; to an earlier one the video is left."""
    monkeypatch.setattr(leases, "UNSETTLED_S", 1.0)
    other, lease = Lease(anywhere, asks), Lease(anywhere, "mine")
    other.open()
    other._taken.append(other._key("/a.mp4"))
    assert lease.take("/a.mp4") is gets
    assert lease.others_hold(["/a.mp4"]) is not gets
    lease.close()
    other.close()


def test_a_run_on_another_host_is_dead_once_it_is_silent(anywhere, monkeypatch):
    lease = Lease(anywhere, "mine")
    lease.open()
    folder, name = folder_at(anywhere), f"{FOLDER}/mine/lease.json"
    said = json.loads(folder.read(name)) | {"host": "elsewhere"}
    folder.write(name, json.dumps(said).encode())
    assert live_runs(anywhere) == {"mine"}
    monkeypatch.setattr(alive, "EXPIRES_S", 1.0)
    time.sleep(2.5)
    assert dead_runs(anywhere) == {"mine"}
    lease.close()


def test_a_clock_that_is_wrong_here_kills_nobody(remote, monkeypatch):
    lease = Lease(remote, "mine")
    lease.open()
    folder, name = folder_at(remote), f"{FOLDER}/mine/lease.json"
    said = json.loads(folder.read(name)) | {"host": "elsewhere"}
    folder.write(name, json.dumps(said).encode())
    wrong = time.time() + 86400
    monkeypatch.setattr(time, "time", lambda: wrong)
    assert live_runs(remote) == {"mine"}
    lease.close()


def test_a_lease_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / FOLDER).write_text("a file")
    with pytest.raises(RunAborted, match="cannot write"):
        Lease(str(tmp_path), "mine").open()
