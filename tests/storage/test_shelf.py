"""A shelf of files: bounded, used by several processes, nothing half written to be seen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.storage.shelf import Shelf

KIB = 1024


def shelf_of(folder: Path, limit: int = 100 * KIB) -> Shelf:
    return Shelf(str(folder), "frames", limit, "cache.folder")


def put(shelf: Shelf, key: str, name: str = "f", size: int = 10 * KIB) -> bool:
    coming = shelf.begin(key, name, size)
    if coming is None:
        return False
    coming.file.write(os.urandom(size))
    coming.publish()
    return True


def keys(shelf: Shelf) -> set[str]:
    return {path.parent.name for path in Path(shelf.folder).glob("*/*")}


def total(shelf: Shelf) -> int:
    return int(Path(shelf.folder, "total").read_text().split()[1])


def on_disk(shelf: Shelf) -> int:
    return sum(path.stat().st_size for path in Path(shelf.folder).glob("*/*"))


def used(shelf: Shelf, key: str, ago_s: float) -> None:
    at = time.time() - ago_s
    for path in Path(shelf.folder, key).iterdir():
        os.utime(path, (at, at))


def test_what_was_used_longest_ago_goes_first(tmp_path):
    old = shelf_of(tmp_path)
    for number in range(9):
        assert put(old, f"k{number}")
        used(old, f"k{number}", 1000 - 10 * number)
    used(old, "k0", 5)  # Made first, used last.
    shelf = shelf_of(tmp_path)
    assert put(shelf, "new", size=20 * KIB)
    assert keys(shelf) == {"k0", "new", *(f"k{n}" for n in range(2, 9))}
    assert total(shelf) == on_disk(shelf) <= 100 * KIB


def test_what_is_open_or_of_this_process_stays(tmp_path):
    old = shelf_of(tmp_path)
    assert put(old, "open", size=50 * KIB)
    used(old, "open", 1000)
    reader = old.open("open", "f")
    used(old, "open", 1000)
    shelf = shelf_of(tmp_path)
    assert put(shelf, "mine", size=40 * KIB)
    assert not put(shelf, "more", size=20 * KIB)
    assert keys(shelf) == {"open", "mine"}
    reader.close()
    assert put(shelf, "more", size=20 * KIB)
    assert keys(shelf) == {"mine", "more"}


def test_what_is_larger_than_all_of_it_is_not_begun(tmp_path):
    shelf = shelf_of(tmp_path)
    put(shelf, "a")
    used(shelf, "a", 1000)
    assert shelf_of(tmp_path).begin("b", "f", 101 * KIB) is None
    assert keys(shelf) == {"a"}


def test_a_file_may_be_removed_under_who_reads_it(tmp_path):
    shelf = shelf_of(tmp_path)
    put(shelf, "a")
    reader = shelf.open("a", "f")
    shelf.remove("a", "f")
    assert len(reader.read()) == 10 * KIB
    assert shelf.open("a", "f") is None
    assert total(shelf) == on_disk(shelf) == 0


def test_a_writer_that_was_killed_leaves_nothing_behind(tmp_path):
    code = (
        "import os, signal; from pipeline.storage.shelf import Shelf; "
        f"Shelf({str(tmp_path)!r}, 'frames', {100 * KIB}, 'x').begin('k', 'f', {60 * KIB}); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    shelf = shelf_of(tmp_path)
    assert shelf.names("k") == []
    assert on_disk(shelf) == 60 * KIB
    assert put(shelf, "n", size=80 * KIB)
    assert total(shelf) == on_disk(shelf) == 80 * KIB


def test_one_who_is_writing_is_left_alone_and_counted(tmp_path):
    writer = shelf_of(tmp_path)
    coming = writer.begin("k", "f", 60 * KIB)
    shelf = shelf_of(tmp_path)
    assert not put(shelf, "n", size=60 * KIB)
    coming.file.write(b"x" * 1000)
    coming.publish()
    assert shelf.names("k") == ["f"]
    assert total(shelf) == on_disk(shelf) == 1000


def test_the_count_is_made_anew_after_a_restart(tmp_path):
    shelf = shelf_of(tmp_path)
    put(shelf, "a")
    Path(shelf.folder, "total").write_text("another-boot 5")
    shelf = shelf_of(tmp_path)
    put(shelf, "b")
    assert total(shelf) == on_disk(shelf) == 20 * KIB


def test_a_folder_that_somebody_removed_fails_nobody_who_reads(tmp_path):
    shelf = shelf_of(tmp_path)
    put(shelf, "a")
    shutil.rmtree(shelf.folder)
    assert shelf.names("a") == []
    assert shelf.open("a", "f") is None
    shelf.remove("a", "f")
    with pytest.raises(FileNotFoundError):
        shelf.begin("a", "f", KIB)


def test_what_cannot_be_counted_is_not_begun(tmp_path):
    shelf = shelf_of(tmp_path)
    Path(shelf.folder, "total").unlink()
    Path(shelf.folder, "total", "there").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        shelf.begin("a", "f", KIB)
    assert not list(Path(shelf.folder, "a").iterdir())


def test_a_folder_of_others_is_refused(tmp_path):
    shelf = shelf_of(tmp_path)
    os.chmod(shelf.folder, 0o777)
    with pytest.raises(UsageError, match=r"open to others; chmod 700 it, or set cache\.folder"):
        shelf_of(tmp_path)
