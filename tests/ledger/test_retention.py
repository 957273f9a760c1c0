"""Superseded rows stay for as long as they are to be kept, and go then."""

from __future__ import annotations

import datetime
import time

import pyarrow as pa
import pytest

from pipeline.ledger.analyses import RecordedAnalysis, read_analyses
from pipeline.ledger.gc import gc
from pipeline.ledger.reader import Ledger
from pipeline.ledger.retention import analyses_since, contents_since
from pipeline.ledger.store import Store
from pipeline.ledger.verify import verify
from pipeline.runner import run
from tests.engine.test_engines import probe
from tests.test_cli import frameledger
from tests.videos import make

DAY_S = 86400.0


def recorded(
    fingerprint: str, name: str, day: int, frames: str = "", until: int | None = None
) -> RecordedAnalysis:
    """Wanted since `day`, and superseded on the day `until`."""
    identity: dict[str, object] = {"frames": frames} if frames else {}
    wanted, ended = (
        f"1970-01-{at + 1:02}T00:00:00.000000+00:00" if at is not None else ""
        for at in (day, until)
    )
    return RecordedAnalysis(
        fingerprint, name, name, identity, wanted, wanted, "run", superseded_at=ended
    )


@pytest.mark.parametrize(
    ("known", "days"),
    [
        ([recorded("e1", "embedder", 1)], {}),
        (
            [recorded("e1", "embedder", 1, until=4), recorded("e2", "embedder", 4)],
            {"e1": 4},
        ),
        # Nobody has said so: since the newest is wanted at the latest.
        (
            [recorded(f"e{n}", "embedder", n) for n in (1, 4, 9)],
            {"e1": 9, "e4": 9},
        ),
        ([recorded("d1", "detector", 1), recorded("e1", "embedder", 4)], {}),
        # Frames stay for those that lie on them.
        (
            [
                recorded("f1", "frames", 1, until=3),
                recorded("f2", "frames", 3),
                recorded("e1", "embedder", 1, "f1", until=8),
                recorded("e2", "embedder", 8, "f2"),
            ],
            {"f1": 8, "e1": 8},
        ),
    ],
)
def test_since_when_analyses_are_superseded(known, days):
    assert analyses_since(known) == {name: day * DAY_S for name, day in days.items()}


def test_models_that_are_wanted_in_turns_do_not_keep_a_third(tmp_path):
    """When an analysis is superseded is kept with it, whatever becomes of its successors."""
    output = str(tmp_path / "out")
    make(tmp_path / "v" / "a.mp4", 12, width=64, height=48)
    times = []
    for stride in (1, 2, 3, 2, 3, 2):
        run(probe(sampling={"stride": stride}), [str(tmp_path / "v")], output, engine="local")
        found = {a.fingerprint: a for a in read_analyses(Store(output)) if a.name == "frames"}
        times.append({a.identity["sampling"]["stride"]: a.superseded_at for a in found.values()})
    assert times[0] == {1: ""}
    ended = times[1][1]
    assert ended
    assert [one[1] for one in times[1:]] == [ended] * 5
    assert [bool(one.get(2)) for one in times] == [False, False, True, False, True, False]
    assert times[-1][3] > times[2][2]
    assert (
        analyses_since(read_analyses(Store(output)))[
            next(f for f, a in found.items() if a.identity["sampling"]["stride"] == 1)
        ]
        >= datetime.datetime.fromisoformat(ended).timestamp()
    )


def contents(*rows: tuple[str, str | None, int]) -> pa.Table:
    names, ids, days = zip(*rows, strict=True)
    times = pa.array([day * 86400 * 10**6 for day in days], pa.timestamp("us", "UTC"))
    columns = {"uri": pa.array(names), "video_id": pa.array(ids), "recorded_at": times}
    return pa.table({name: pa.chunked_array([column]) for name, column in columns.items()})


A, B, C = (letter * 64 for letter in "abc")


@pytest.mark.parametrize(
    ("rows", "old", "days"),
    [
        (contents(("/1", A, 1), ("/1", B, 5)), [A], {A: 5}),
        (contents(("/1", B, 5), ("/1", A, 1)), [A], {A: 5}),
        (contents(("/1", A, 1), ("/1", B, 5), ("/1", C, 7)), [A, B], {A: 5, B: 7}),
        # The last file that had it counts, and its last time.
        (contents(("/1", A, 1), ("/2", A, 2), ("/1", B, 5), ("/2", C, 8)), [A], {A: 8}),
        (
            contents(("/1", A, 1), ("/1", B, 5), ("/1", A, 6), ("/1", B, 9)),
            [A],
            {A: 9},
        ),
        # That it could not be read between says nothing.
        (contents(("/1", A, 1), ("/1", None, 3), ("/1", B, 5)), [A], {A: 5}),
        # The same again is no end of it.
        (contents(("/1", A, 1), ("/1", A, 4), ("/1", B, 5)), [A], {A: 5}),
    ],
)
def test_since_when_contents_are_superseded(rows, old, days):
    assert contents_since(rows, old) == {name: day * DAY_S for name, day in days.items()}


@pytest.fixture
def output(tmp_path):
    """An old analysis of every frame, a new one of every second, and a file with a new content."""
    path = make(tmp_path / "v" / "a.mp4", 20, width=64, height=48)
    make(tmp_path / "v" / "b.mp4", 12, width=64, height=48)
    folder = tmp_path / "out"
    run(probe(), [str(tmp_path / "v")], folder, engine="local")
    time.sleep(1.0)
    make(path, 30, width=64, height=48)
    run(probe(sampling={"stride": 2}), [str(tmp_path / "v")], folder, engine="local")
    return str(folder)


def rows(output: str) -> int:
    return Ledger(output).table("embeddings", current=False, analysis=None).num_rows


def test_what_is_kept_and_what_goes(output):
    began = time.time()
    assert gc(output, superseded=True, keep_s=3600).dropped == []
    assert len(gc(output, dry_run=True, superseded=True).dropped) == 3
    # The new content is a fraction of a second old, and so is the end of the old analysis.
    report = gc(output, dry_run=True, superseded=True, keep_s=time.time() - began + 3600)
    assert report.dropped == []
    time.sleep(0.2)
    report = gc(output, superseded=True, keep_s=0.1)
    assert sorted(dropped.what.split(" ")[0] for dropped in report.dropped) == [
        "1",
        "analysis",
        "analysis",
    ]
    assert verify(output).sound
    assert Ledger(output).table("frames", current=False).num_rows == 15 + 6


def test_on_the_command_line(output):
    kept = frameledger("gc", output, "--keep", "90d")
    assert (kept.returncode, "drop" in kept.stdout) == (0, False)
    time.sleep(1.1)
    gone = frameledger("gc", output, "--keep", "1s", "--dry-run")
    assert gone.stdout.count("drop     ") == 3
    wrong = frameledger("gc", output, "--keep", "90")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "--keep 90: not a length of time" in wrong.stderr
