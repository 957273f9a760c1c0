"""What a writer had whole when it died is not done again."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.errors import RunAborted
from pipeline.ledger.adopt import adopt, has_left
from pipeline.ledger.books import Books
from pipeline.ledger.journal import FOLDER, Journal, Note, journals, read_journal
from pipeline.ledger.reader import Ledger
from pipeline.ledger.verify import verify
from pipeline.records import Failure, VideoOutcome
from tests.ledger.corpus import ALL, FRAMES, feed, make_index, make_tasks, open_writer, source_of

LOST = frozenset({4, 6, 30})


def written(root: Path, entries: int) -> Path:
    journal = Journal(str(root), "run", "nonce")
    journal.turn({"up_to": 3, "beyond": [5]})
    for number in range(entries):
        rows = pa.table({"n": [number] * 5})
        facts = {"report": number}
        shard = Note("rows", rows, f"id-{number}", "frames")
        journal.write([shard, Note("videos", rows, facts=facts)])
    return root / FOLDER / "run" / "nonce-0001.journal"


def test_entries_come_back_as_they_were_written(tmp_path):
    written(tmp_path, 3)
    (_, (mark,)), *entries = read_journal(str(tmp_path), "run")
    assert (mark.kind, mark.facts) == ("mark", {"up_to": 3, "beyond": [5]})
    assert {batch for batch, _ in entries} == {"run-nonce-0001"}
    for number, (_, (rows, video)) in enumerate(entries):
        assert (rows.kind, rows.name, rows.table) == ("rows", f"id-{number}", "frames")
        assert rows.rows.equals(pa.table({"n": [number] * 5}))
        assert video.facts == {"report": number}


def test_an_entry_that_was_cut_anywhere_was_never_written(tmp_path):
    whole = written(tmp_path / "one", 1).stat().st_size
    path = written(tmp_path / "two", 2)
    data = path.read_bytes()
    for end in range(whole, len(data), 7):
        path.write_bytes(data[:end])
        assert len(list(read_journal(str(tmp_path / "two"), "run"))) == 2


def test_an_entry_with_other_bytes_is_not_believed(tmp_path):
    path = written(tmp_path, 2)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert len(list(read_journal(str(tmp_path), "run"))) == 2


def test_a_journal_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / FOLDER).write_text("a file")
    with pytest.raises(RunAborted, match="cannot write"):
        Journal(str(tmp_path), "run", "nonce").turn({})


def test_a_journal_that_cannot_be_read_is_said(tmp_path):
    path = written(tmp_path, 1)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(RunAborted, match="cannot read the journal of a run"):
        list(read_journal(str(tmp_path), "run"))


# -- taking over ------------------------------------------------------------------------


def abandoned(output: str, run_id: str = "dead") -> None:
    """A writer that had two videos whole, one of them with its end, and committed nothing."""
    writer = open_writer(output, run_id)
    for name in ("a", "b"):
        writer.add_index(make_index(name))
        for task in make_tasks(name):
            feed(writer, task, lost=LOST)
    outcome = VideoOutcome(source_of("a"), make_index("a"), "partial", "frames are missing")
    failure = Failure("/videos/c.mp4", "index", "no video", stamp="1:1")
    writer.add_report([failure], [outcome, VideoOutcome(source_of("c"), None, "failed")], 1)


def assert_all_there(output: str) -> None:
    assert [str(finding) for finding in verify(output).findings] == []
    ledger, books = Ledger(output), Books(output)
    assert ledger.table("frames").num_rows == 50
    assert ledger.table("videos", current=False).num_rows == 2
    assert ledger.table("failures").num_rows == 2 * len(LOST) + 1
    for name in ("a", "b"):
        assert all(books.video_done(make_index(name).video_id, a.fingerprint) for a in ALL)


def test_what_a_dead_run_had_whole_is_taken_over_once(anywhere):
    output = anywhere
    abandoned(output)
    assert Ledger(output).table("frames").num_rows == 0
    assert has_left(output)
    assert adopt(output, set())["frames"] == 50
    assert_all_there(output)
    assert not has_left(output)
    assert adopt(output, set()) == {}


def test_the_journal_of_a_run_that_is_alive_is_its_own(anywhere):
    output = anywhere
    abandoned(output)
    assert adopt(output, {"dead"}) == {}
    assert journals(output) == ["dead"]


def test_writers_of_one_run_have_journals_of_their_own(anywhere):
    output = anywhere
    one, two = (open_writer(output, "run", part=part) for part in (0, 1))
    for writer, name in ((one, "a"), (two, "b")):
        writer.add_index(make_index(name))
        for task in make_tasks(name):
            feed(writer, task)
    assert journals(output) == ["run", "run.1"]
    # The second comes back: what the first has is none of its business.
    two = open_writer(output, "run", part=1)
    assert Ledger(output).table("frames").num_rows == 25
    two.close()
    assert journals(output) == ["run"]
    assert adopt(output, {"run"}) == {}
    assert adopt(output, set())["frames"] == 25
    assert Ledger(output).table("frames").num_rows == 50
    assert not has_left(output)


KILLED_AT = [*(("disk", steps) for steps in range(7)), ("store", 0), ("store", 4)]


@pytest.mark.parametrize(("anywhere", "steps"), KILLED_AT, indirect=["anywhere"])
def test_killed_within_a_commit(anywhere, steps):
    output = anywhere
    abandoned(output, "first")
    from pipeline.ledger.commit import LedgerWriter

    # The process that takes over dies as well, between any two tables of its commit.
    class Dying(LedgerWriter):
        def flush(self) -> None:
            for _, (_, step) in zip(range(steps), self.steps(), strict=False):
                step()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Dying(output, "first", None)
    adopt(output, set())
    assert_all_there(output)


def _adopt(output: str) -> None:
    adopt(output, set())


def test_two_take_over_at_once(anywhere):
    output = anywhere
    abandoned(output)
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_adopt, args=(output,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    assert_all_there(output)


def test_a_run_that_was_taken_for_dead_loses_nothing(anywhere):
    output = anywhere
    with open_writer(output, "slow") as writer:
        for name in ("a", "b"):
            writer.add_index(make_index(name))
            for task in make_tasks(name):
                feed(writer, task)
            writer.add_video(VideoOutcome(source_of(name), make_index(name), "ok"))
            if name == "a":
                assert adopt(output, set())["frames"] == 25
    assert [str(finding) for finding in verify(output).findings] == []
    assert Ledger(output).videos().column("status").to_pylist() == ["ok", "ok"]
    assert Ledger(output).table("frames").num_rows == 50


def test_a_collector_that_comes_back_goes_on_where_it_was(anywhere):
    output = anywhere
    first, *rest = make_tasks("a")
    writer = open_writer(output, "run")
    writer.add_index(make_index("a"))
    feed(writer, first)
    failure = Failure("/videos/c.mp4", "index", "no video")
    writer.add_report([failure], [], 1)
    with open_writer(output, "run") as again:
        assert Books(output).landed(first.index.video_id, FRAMES.fingerprint) == {0}
        again.add_report([failure], [], 1)  # Told again, since nobody heard the answer.
        feed(again, first)
        for task in rest:
            feed(again, task)
        again.add_video(VideoOutcome(source_of("a"), make_index("a"), "ok"))
    assert [str(finding) for finding in verify(output).findings] == []
    assert Ledger(output).table("failures").num_rows == 1
    assert Ledger(output).table("frames").num_rows == 25
    assert not has_left(output)
