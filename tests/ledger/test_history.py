"""The tables as they were at any moment: all of the same moment, or a clear word why not."""

from __future__ import annotations

import datetime
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.ledger.commit import LedgerWriter
from pipeline.ledger.gc import gc
from pipeline.ledger.history import open_store, parse_time
from pipeline.ledger.reader import Ledger
from pipeline.ledger.runs import RunLog, RunRecord
from pipeline.ledger.schema import TABLES
from pipeline.ledger.status import status
from pipeline.ledger.store import Store
from pipeline.ledger.verify import verify
from pipeline.records import Analysis
from tests.ledger.corpus import (
    EMBEDDER,
    FRAMES,
    feed,
    make_tasks,
    open_writer,
    video_id,
    write_video,
)

NEWER = Analysis("embedder", "embeddings", {"model": "c", "frames": FRAMES.fingerprint})


def now() -> datetime.datetime:
    """A moment that no commit is at; those before are before, those after are after."""
    time.sleep(0.005)
    moment = datetime.datetime.now(datetime.timezone.utc)
    time.sleep(0.005)
    return moment


def commit_times(output: str) -> list[float]:
    """Seconds since 1970 of every commit to any table."""
    found = []
    for path in Path(output).glob("*/_delta_log/*.json"):
        for line in path.read_text().splitlines():
            if "commitInfo" in (entry := json.loads(line)):
                found.append(entry["commitInfo"]["timestamp"] / 1000)
    return sorted(found)


def shift_clock(output: str, table: str, version: int, seconds: float) -> None:
    """As if the writer of one commit had a clock that differs."""
    path = Path(Store(output).uri(table)) / "_delta_log" / f"{version:020d}.json"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if "commitInfo" in line:
            line["commitInfo"]["timestamp"] += int(seconds * 1000)
    path.write_text("\n".join(json.dumps(line, separators=(",", ":")) for line in lines))


def test_rows_contents_and_analyses_as_of_a_time(tmp_path) -> None:
    output = str(tmp_path / "o")
    with open_writer(output, "1") as writer:
        write_video(writer, "a")
    first = now()
    with open_writer(output, "2") as writer:
        write_video(writer, "a", frames=10, stamp="2:2", content="a2")
        write_video(writer, "b")
    second = now()
    with LedgerWriter(output, "3", {a.fingerprint: a for a in (FRAMES, NEWER)}) as writer:
        feed(writer, make_tasks("b", analyses=(NEWER,))[0])

    def seen(at: object) -> tuple[int, set[str], set[str], int]:
        ledger = Ledger(output, as_of=at)  # type: ignore[arg-type]
        frames, vectors = ledger.table("frames"), ledger.table("embeddings")
        ids = set(frames.column("video_id").to_pylist())
        return len(frames), ids, set(vectors.column("analysis").to_pylist()), len(ledger.videos())

    a, a2, b = video_id("a"), video_id("a2"), video_id("b")
    assert seen(first) == (25, {a}, {EMBEDDER.fingerprint}, 1)
    assert seen(second.isoformat()) == (30, {a2, b}, {EMBEDDER.fingerprint}, 2)
    assert seen(None) == seen(now()) == (30, {a2, b}, {NEWER.fingerprint}, 2)
    then = Ledger(output, as_of=first)
    assert then.frame("/videos/a.mp4", 10).video_id == a
    assert then.index("/videos/a.mp4").frame_count == 50
    with pytest.raises(UsageError, match=r"no video /videos/b.mp4"):
        then.frame("/videos/b.mp4", 0)
    assert status(output, first).videos == {"ok": 1}
    assert [x.current for x in status(output, second).analyses] == [True, True, True]
    assert status(output).videos == {"ok": 2}


@pytest.mark.parametrize("skew_s", [0.0, 5.0, -5.0])
def test_tables_agree_at_every_moment(tmp_path, skew_s: float) -> None:
    """Also where a second writer's clock differs by seconds."""
    output = str(tmp_path / "o")
    with open_writer(output, "1") as writer:
        write_video(writer, "a", lost=frozenset({6}))
    before = {name: Store(output).open(name).version() for name in TABLES}
    with open_writer(output, "2") as writer:
        write_video(writer, "b")
    for name, version in before.items():
        for later in range(version + 1, Store(output).open(name).version() + 1):
            shift_clock(output, name, later, skew_s)
    with open_writer(output, "3") as writer:
        write_video(writer, "c")
    gc(output)
    seen = set()
    begin = max(json_time(output, name) for name in TABLES)
    moments = [at for at in commit_times(output) if at >= begin]
    for at in moments[::3] if skew_s else moments[::2]:
        moment = datetime.datetime.fromtimestamp(at, datetime.timezone.utc)
        assert verify(output, as_of=moment).findings == []
        ledger = Ledger(output, as_of=moment)
        done = set(ledger.videos().column("video_id").to_pylist())
        assert done <= set(ledger.table("indexes").column("video_id").to_pylist())
        assert done <= set(ledger.table("embeddings").column("video_id").to_pylist())
        seen.add(len(done))
    assert seen == {0, 1, 2, 3} if not skew_s else max(seen) > 1


def json_time(output: str, table: str) -> float:
    path = Path(Store(output).uri(table)) / "_delta_log" / f"{0:020d}.json"
    lines = (json.loads(line) for line in path.read_text().splitlines())
    return next(x["commitInfo"]["timestamp"] / 1000 for x in lines if "commitInfo" in x)


def test_gc_keeps_history_for_its_grace_and_says_what_it_ends(tmp_path) -> None:
    output = str(tmp_path / "o")
    for name in ("a", "b", "c", "d"):
        with open_writer(output, name) as writer:
            write_video(writer, name)
    then = now()
    assert gc(output).history_since is None
    assert len(Ledger(output, as_of=then).table("frames")) == 100
    assert verify(output, as_of=then).findings == []
    report = gc(output, grace_hours=0)
    assert report.history_since is not None
    assert report.history_since >= then.timestamp()
    with pytest.raises(UsageError, match=r"is not kept any more \(gc has removed 4 files of it\)"):
        Ledger(output, as_of=then).table("frames")
    with pytest.raises(UsageError, match="name a later time"):
        status(output, then)
    assert len(Ledger(output, as_of=now()).table("frames")) == 100


def test_a_time_that_history_does_not_reach(tmp_path, monkeypatch) -> None:
    import pipeline.ledger.gc

    monkeypatch.setattr(pipeline.ledger.gc, "CHECKPOINT_EVERY", 1)
    output = str(tmp_path / "o")
    with open_writer(output) as writer:
        write_video(writer, "a")
    between = now()
    with open_writer(output, "2") as writer:
        write_video(writer, "b")
    with pytest.raises(UsageError, match=r"2001-01-01T00:00:00Z is before the first commit"):
        Ledger(output, as_of="2001-01-01")
    gc(output)
    old = time.time() - 40 * 86400
    for path in Path(output).glob("*/_delta_log/*"):
        os.utime(path, (old, old))
    with open_writer(output, "3") as writer:
        write_video(writer, "c")
    assert gc(output).log_entries > 0
    with pytest.raises(UsageError, match=r"is older than the history that is kept, which begins"):
        Ledger(output, as_of=between)


def test_as_a_run_left_it(tmp_path) -> None:
    output = str(tmp_path / "o")
    for name in ("a", "b"):
        log = RunLog(output)
        record = RunRecord(f"run-{name}", log.now(), "{}", (), ())
        log.write(record)
        with open_writer(output, f"run-{name}") as writer:
            write_video(writer, name)
        time.sleep(0.005)
        if name == "a":
            log.write(replace(record, ended_at=log.now(), exit_code=0))
            time.sleep(0.005)
    assert len(Ledger(output, as_of="run-a").table("frames")) == 25
    with pytest.raises(UsageError, match=r"run run-b has not ended \(died\); name a time"):
        Ledger(output, as_of="run-b")


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2026-05-17T09:30:00", 9),
        ("2026-05-17T09:30:00Z", 9),
        ("2026-05-17 11:30:00+02:00", 9),
        ("2026-05-17", 0),
    ],
)
def test_times_are_read(text: str, hour: int) -> None:
    assert parse_time(text).astimezone(datetime.timezone.utc).hour == hour


def test_what_is_no_time_is_refused(output: str) -> None:
    with pytest.raises(UsageError, match=r"as of yesterday: a time such as"):
        Ledger(output, as_of="yesterday")
    with pytest.raises(UsageError, match="is no frameledger output"):
        open_store(os.path.dirname(output), "2026-05-17")
