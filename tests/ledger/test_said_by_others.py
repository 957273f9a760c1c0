"""What two runs find of one file is recorded once; what a later run finds again, again."""

from __future__ import annotations

import pytest

from pipeline.ledger.books import Books
from pipeline.ledger.compaction import compact
from pipeline.ledger.reader import Ledger
from pipeline.ledger.said_by_others import LOGS
from pipeline.ledger.store import Store
from pipeline.records import Failure, VideoOutcome
from tests.ledger.corpus import open_writer, source_of, write_video

REASON = "no video stream"


@pytest.fixture
def begun(anywhere) -> str:
    """An output in which a run has ended."""
    with open_writer(anywhere, "before") as writer:
        write_video(writer, "a")
    return anywhere


def say(writer, name="b", reason=REASON, attempts=1) -> None:
    source = source_of(name)
    failure = Failure(source.uri, "index", reason, stamp=source.stamp, attempts=attempts)
    writer.add_report([failure], [VideoOutcome(source, None, "failed", reason)])


def said(output: str) -> list[tuple[str, str, str]]:
    """(file, run, reason) of each failure, in order; the outcomes have to be the same."""
    found = []
    for name in LOGS:
        rows = Ledger(output).table(name, current=False).to_pylist()
        found.append(sorted((r["uri"][-5], r["run_id"], r["reason"]) for r in rows if r["reason"]))
    assert found[0] == found[1]
    return found[0]


def test_what_another_run_has_said_since_is_not_said_again(begun):
    books = Books(begun).versions
    with open_writer(begun, "one", books=books) as one:
        say(one, attempts=3)
    with open_writer(begun, "two", books=books) as two:
        say(two)
        say(two, "c")
        two.flush()
        assert two.stats.rows["failures"] == 1
        say(two, "d")
    assert said(begun) == [("b", "one", REASON), ("c", "two", REASON), ("d", "two", REASON)]


def test_another_reason_is_said(begun):
    books = Books(begun).versions
    with open_writer(begun, "one", books=books) as one:
        say(one)
    with open_writer(begun, "two", books=books) as two:
        say(two, reason="it is a directory")
    assert said(begun) == [("b", "one", REASON), ("b", "two", "it is a directory")]


def test_a_later_run_says_it_again(begun):
    for run in ("one", "two"):
        with open_writer(begun, run, books=Books(begun).versions) as writer:
            say(writer)
    assert said(begun) == [("b", "one", REASON), ("b", "two", REASON)]


def test_what_compaction_writes_again_is_nothing_new(begun):
    """Its rows were there before the books were read."""
    with open_writer(begun, "one") as writer:
        for name in "bcdefghij":
            say(writer, name)
            writer.flush()
    books = Books(begun).versions
    with open_writer(begun, "two", books=books) as writer:
        assert compact(Store(begun), "failures") is not None
        assert Books(begun).versions["failures"] > books["failures"]
        say(writer)
    assert ("b", "two", REASON) in said(begun)


def test_it_is_heard_by_a_commit_that_is_refused(begun, monkeypatch):
    """The other run's commit comes between the look and the write."""
    books = Books(begun).versions
    with open_writer(begun, "one", books=books) as one:
        say(one)
        with open_writer(begun, "two", books=books) as two:
            say(two)
            others = two._flush._others["failures"]
            left_out = others.left_out

            def late(rows):
                monkeypatch.undo()
                found = left_out(rows)
                assert found.num_rows == 1
                one.flush()
                return found

            monkeypatch.setattr(others, "left_out", late)
            two.flush()
    assert said(begun) == [("b", "one", REASON)]


def test_of_what_a_process_left_the_next_one_says_what_nobody_has(begun):
    books = Books(begun).versions
    dead = open_writer(begun, "two", books=books)
    say(dead)
    say(dead, "c")
    with open_writer(begun, "one", books=books) as one:
        say(one)
    with open_writer(begun, "two", books=books):
        pass
    assert said(begun) == [("b", "one", REASON), ("c", "two", REASON)]
