"""Plain files beside the tables: the same on a disk and on a store."""

from __future__ import annotations

import os
import time

import pytest

from pipeline.errors import UsageError
from pipeline.ledger.folder import folder_at
from pipeline.storage.objects import StoreRefused


@pytest.fixture
def folder(anywhere):
    return folder_at(anywhere)


def names(folder, name=""):
    return [entry.name for entry in folder.listed(name)]


def test_a_file_is_there_whole_and_can_be_replaced(folder):
    folder.write("a/b.json", b"one")
    folder.write("a/b.json", b"other")
    assert folder.read("a/b.json") == b"other"
    assert folder.read("a/b.json", 2) == b"her"
    (entry,) = folder.listed("a")
    assert (entry.name, entry.size_bytes) == ("a/b.json", 5)
    with pytest.raises(FileNotFoundError):
        folder.read("a/c.json")


def test_what_is_listed_is_below_and_not_hidden(folder):
    for name in ("a/x", "a/b/y", "ab/z", "a/.hidden"):
        folder.write(name, b"1")
    assert names(folder, "a") == ["a/b/y", "a/x"]
    assert folder.folders("") == ["a", "ab"]
    assert folder.folders("a") == ["b"]
    assert (names(folder, "none"), folder.folders("none")) == ([], [])
    folder.remove(["a/x", "a/not-there"])
    assert names(folder, "a") == ["a/b/y"]
    folder.remove_folder("a/b")
    assert names(folder) == ["ab/z"]


@pytest.mark.parametrize("piece_bytes", [0, 8])
def test_a_log_grows_and_can_be_emptied(folder, piece_bytes):
    log = folder.grow("logs/one", b"begin,", piece_bytes)
    for number in range(5):
        log.append(b"%d," % number)
    assert b"".join(map(folder.read, names(folder, "logs"))) == b"begin,0,1,2,3,4,"
    assert names(folder, "logs") == log.names()
    log.clear()
    assert b"".join(map(folder.read, names(folder, "logs"))) == b""
    log.append(b"again")
    assert b"".join(map(folder.read, names(folder, "logs"))) == b"again"
    log.close()


def test_a_large_file_is_written_as_a_stream_or_not_at_all(folder):
    data = os.urandom(6 * 2**20)
    with folder.create("table/part.parquet") as file:
        file.write(data)
    assert folder.read("table/part.parquet") == data

    def cut() -> None:
        with folder.create("table/other.parquet") as file:
            file.write(data)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut()
    assert names(folder, "table") == ["table/part.parquet"]


def test_ages_are_by_one_clock(folder):
    folder.write("a/x", b"1")
    (entry,) = folder.listed("a")
    assert abs(folder.now("a") - entry.modified_s) < 5
    time.sleep(1.1)
    folder.touch("a/x", b"1")
    (touched,) = folder.listed("a")
    assert touched.modified_s > entry.modified_s
    folder.remove(["a/x"])
    folder.touch("a/x", b"1")
    assert folder.read("a/x") == b"1"


def test_a_store_that_fails_now_and_then_is_tried_again(server, remote):
    folder = folder_at(remote)
    server.tell(fail=0.3, lose=0.1)
    log = folder.grow("logs/one")
    for number in range(20):
        log.append(b"%d," % number)
    said = b"".join(map(folder.read, names(folder, "logs")))
    assert said == b"".join(b"%d," % number for number in range(20))
    assert server.requests()["503"] > 5


def test_refused_credentials_are_not_tried_again(server, remote):
    folder = folder_at(remote)
    server.tell(refuse=1.0)
    began = time.monotonic()
    with pytest.raises(StoreRefused, match="InvalidAccessKeyId"):
        folder.write("a/x", b"1")
    assert time.monotonic() - began < 5


def test_a_bucket_that_is_not_there_is_named(server):
    with pytest.raises(UsageError, match="there is no s3://nobody; make it first"):
        folder_at("s3://nobody/tables")
