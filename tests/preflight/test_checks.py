"""The judgements of preflight on plain values: what no single machine can really be."""

from __future__ import annotations

import pytest

from pipeline.preflight import checks

GIB = 2**30
SAID = {
    "python": "3.11.7",
    "executable": "/venv/bin/python",
    "ray": "2.60.0",
    "frameledger": "0.1.0",
    "frameledger_code": "aaaa",
}


def test_silent_nodes_are_named_and_only_three_of_them():
    silent = {f"n{i}": "no answer in 30 s" for i in range(5)}
    row = checks.check_answering(silent, 9, "")
    assert (row.name, row.state) == ("nodes", "failed")
    assert row.found.startswith("no process answers on n0: no answer in 30 s; n1")
    assert row.found.endswith("; and 2 more")
    assert checks.check_answering({}, 9, "36 CPUs").found == "9 alive: 36 CPUs"


@pytest.mark.parametrize(
    ("differing", "name", "state", "words"),
    [
        ({"ray": "2.59.0"}, "ray", "failed", "2.60.0 here; b: 2.59.0"),
        ({"python": "3.12.7"}, "python", "failed", "3.11.7 here; b: 3.12.7"),
        ({"python": "3.11.9"}, "python", "warning", "b: 3.11.9"),
        ({"frameledger": "0.2.0"}, "frameledger", "failed", "b: 0.2.0 (code aaaa)"),
        # Two checkouts that both call themselves 0.1.0.
        ({"frameledger_code": "bbbb"}, "frameledger", "failed", "b: 0.1.0 (code bbbb)"),
        ({"frameledger": "", "frameledger_problem": "ModuleNotFoundError"}, "frameledger",
         "failed", "b: none (ModuleNotFoundError; /venv/bin/python)"),
    ],
)  # fmt: skip
def test_versions_that_differ_are_named_with_their_node(differing, name, state, words):
    rows = checks.check_versions(SAID, {"a": SAID, "b": SAID | differing})
    (row,) = [row for row in rows if row.state != "ok"]
    assert (row.name, row.state) == (name, state)
    assert words in row.found
    assert "a:" not in row.found


@pytest.mark.parametrize(
    ("gcs", "dashboard", "answer", "expected"),
    [
        ("refused", "127.0.0.1:8265", 401, ["ok", "ok"]),
        ("refused", "", None, ["ok", "ok"]),
        ("open", "127.0.0.1:8265", 200, ["failed", "failed"]),
        ("unknown", "127.0.0.1:8265", "Connection refused", ["warning", "warning"]),
        # The token would travel in the clear.
        ("refused", "10.0.0.5:8265", 401, ["ok", "warning"]),
        ("refused", "10.0.0.5:8265", 200, ["ok", "failed"]),
    ],
)
def test_strangers_have_to_be_refused(gcs, dashboard, answer, expected):
    rows = checks.check_authentication(gcs, dashboard, answer)
    assert [row.name for row in rows] == ["authentication", "job API"]
    assert [row.state for row in rows] == expected


def test_gpus_that_are_offered_have_to_be_seen():
    two = {"a": 2, "b": 2}
    names = ["H200", "H200"]
    fine = checks.check_gpus(two, {"a": names, "b": names}, True)
    assert (fine.state, fine.found) == ("ok", "4 seen by torch: H200")
    lacking = checks.check_gpus(two, {"a": names, "b": names[:1]}, True)
    assert (lacking.state, lacking.found) == ("failed", "b: offers 2, torch sees 1")
    broken = checks.check_gpus(two, {"a": names, "b": "CUDA error"}, True)
    assert (broken.state, broken.found) == ("failed", "b: torch: CUDA error")
    busy = checks.check_gpus(two, {"a": names, "b": None}, True)
    assert (busy.state, busy.found) == ("warning", "not looked at: b: 2 in use")
    assert checks.check_gpus({}, {}, False).state == "ok"
    assert checks.check_gpus({}, {}, True).state == "warning"


def test_models_have_to_be_the_same():
    here = {"frames": "f", "detector": "1", "embedder": "2"}
    fine = checks.check_models(here, {"a": dict(here)})
    assert (fine.state, fine.found) == ("ok", "detector, embedder: the same on every node")
    other = checks.check_models(here, {"a": dict(here), "b": here | {"detector": "9"}})
    assert (other.state, other.found) == ("failed", "b: other weights or settings of detector")
    assert checks.check_models(here, {"a": "no such folder"}).found == "a: no such folder"
    assert checks.check_models("no such folder", {}).state == "failed"


def test_what_every_node_lacks_is_said_once():
    row = checks.check_place("input", "fine", {"a": "not there", "b": "not there"}, "mount it")
    assert (row.state, row.found, row.remedy) == ("failed", "every node: not there", "mount it")
    row = checks.check_place("input", "fine", {"a": "", "b": "not there"}, "mount it")
    assert row.found == "b: not there"
    assert checks.check_place("input", "fine", {"a": "", "b": ""}, "").found == "fine"


@pytest.mark.parametrize(
    ("free", "total", "full", "wanted", "state"),
    [
        (50 * GIB, 200 * GIB, 0.95, 0, "ok"),
        (9 * GIB, 100 * GIB, 0.95, 0, "warning"),
        (9 * GIB, 200 * GIB, 0.95, 0, "failed"),  # Under 5 %: Ray spills no more.
        (9 * GIB, 200 * GIB, 0.99, 0, "warning"),
        (50 * GIB, 200 * GIB, 0.95, 60 * GIB, "failed"),
    ],
)
def test_disks_need_room(free, total, full, wanted, state):
    disks = {"a": (100 * GIB, 200 * GIB), "b": (free, total)}
    row = checks.check_disks(disks, {"a": 0.95, "b": full}, wanted)
    assert (row.name, row.state) == ("disk", state)
    if state != "ok":
        assert row.found == f"b: {free / GIB:,.1f} GiB of {total / GIB:,.1f} GiB free"


def test_object_stores_need_room():
    def judged(store: int, shm: int, free: float = 1.0, wanted: int = 0) -> checks.Check:
        stores, shared = {"a": 8 * GIB, "b": store}, {"a": (GIB, 9 * GIB), "b": (GIB, shm)}
        return checks.check_object_store(stores, shared, free, GIB, wanted)

    assert judged(2 * GIB, 4 * GIB).state == "ok"
    small = judged(GIB // 2, 4 * GIB)
    assert (small.state, small.found) == ("failed", "b: 512 MiB; 1,024 MiB are needed")
    # What a container has without --shm-size.
    slow = judged(2 * GIB, GIB // 16)
    assert (slow.state, slow.found) == ("warning", "b: 2,048 MiB on disk: /dev/shm has 64 MiB")
    assert judged(2 * GIB, 4 * GIB, wanted=3 * GIB).state == "warning"
    assert judged(2 * GIB, 4 * GIB, free=0.2).state == "warning"


def test_the_quickest_round_trip_tells_the_clock():
    """A clock 5 s ahead; answers take long on their way there, or back, or neither."""
    trips = [(10.0, 16.0, 11.0), (20.0, 25.0, 21.0), (30.0, 35.002, 30.004)]
    ahead, error = checks.clock_offset(trips)
    assert (ahead, error) == pytest.approx((5.0, 0.002))
    # Each round trip alone is right within its own error.
    for trip in trips:
        ahead, error = checks.clock_offset([trip])
        assert abs(ahead - 5.0) <= error + 1e-9


@pytest.mark.parametrize(
    ("ahead", "error", "state", "found"),
    [
        (0.004, 0.001, "ok", "within 5 ms"),
        (-3.0, 0.001, "warning", "b: 3.0 s behind"),
        (3.0, 2.0, "ok", "within 5,000 ms"),  # A slow network, and no proof of anything.
        (45.0, 0.001, "failed", "b: 45.0 s ahead"),
        (-3600.0, 0.001, "failed", "b: 3,600.0 s behind"),
    ],
)
def test_clocks_that_are_off_are_named(ahead, error, state, found):
    row = checks.check_clocks({"a": (0.0, 0.001), "b": (ahead, error)})
    assert (row.name, row.state, row.found) == ("clock", state, found)
