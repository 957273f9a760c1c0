"""A table that is open is seen as it is now, whatever was done to its log meanwhile."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from deltalake import DeltaTable

from pipeline.errors import UsageError
from pipeline.ledger.history import open_store
from pipeline.ledger.reader import Ledger
from pipeline.ledger.snapshots import Snapshots
from pipeline.ledger.store import Store
from tests.ledger.corpus import open_writer, write_video


@pytest.fixture
def output(tmp_path) -> str:
    with open_writer(tmp_path) as writer:
        write_video(writer, "a")
    return str(tmp_path)


def test_what_is_committed_is_seen_where_it_is_looked_for(output):
    snapshots = Snapshots(Store(output))
    table, files = snapshots.of("videos"), snapshots.files("videos")
    version = table.version()
    assert snapshots.of("videos") is table
    assert snapshots.files("videos") is files
    with open_writer(output, "run-2") as writer:
        write_video(writer, "b")
    assert snapshots.of("videos", now=False).version() == version
    assert snapshots.files("videos", now=False) is files
    newest = DeltaTable(Store(output).uri("videos")).version()
    assert snapshots.of("videos").version() == newest > version
    assert len(snapshots.files("videos")) == len(files) + 1


def test_commits_whose_entries_only_a_checkpoint_has_are_seen(output):
    snapshots = Snapshots(Store(output))
    seen = snapshots.of("videos").version()
    for number in (2, 3):
        with open_writer(output, f"run-{number}") as writer:
            write_video(writer, f"b{number}")
    # As a clean-up of the log does to entries that a checkpoint has.
    uri = Store(output).uri("videos")
    table = DeltaTable(uri)
    table.create_checkpoint()
    for version in range(table.version()):
        Path(uri, "_delta_log", f"{version:020d}.json").unlink()
    assert table.version() > seen + 1
    assert snapshots.of("videos").version() == table.version()
    assert len(snapshots.files("videos")) == len(table.file_uris())


def test_a_table_that_is_not_there_is_named(output):
    shutil.rmtree(Store(output).uri("embeddings"))
    with pytest.raises(UsageError, match="the table embeddings is missing"):
        Ledger(output).frame("/videos/a.mp4", 0)


def test_a_table_of_the_past_stays(output):
    before = open_store(output, "2999-01-01")
    snapshots = Snapshots(before)
    version = snapshots.of("videos").version()
    with open_writer(output, "run-2") as writer:
        write_video(writer, "b")
    assert snapshots.of("videos").version() == version
