"""Blocks of objects: fetched once a node, kept within bounds, of one version."""

import hashlib
import os
import random
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.storage import cache as cache_module
from pipeline.storage import objects
from pipeline.storage.blocks import BLOCK_BYTES, Blocks
from pipeline.storage.cache import Cache
from pipeline.storage.objects import ObjectChanged, StoreError

MIB = 2**20


def put(store, key: str, size: int) -> tuple[tuple[str, str, int], bytes]:
    """An object of random bytes: what it is opened by, and the bytes."""
    data = random.Random(key).randbytes(size)
    store.put("corpus", key, data)
    found = objects.stat(f"s3://corpus/{key}")
    store.tell()
    return (found.uri, found.stamp, size), data


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(str(tmp_path / "cache"), 64 * MIB)


@pytest.fixture(params=["memory", "disk"])
def opener(request, cache):
    return Blocks if request.param == "memory" else cache.open


def test_any_range_is_what_it_is_in_the_object(store, opener):
    of, data = put(store, "ranges", 5 * BLOCK_BYTES + 123)
    blocks = opener(*of)
    rng = random.Random(1)
    for _ in range(40):
        start = rng.randrange(len(data))
        length = rng.choice([0, 1, 1000, BLOCK_BYTES, 2 * BLOCK_BYTES + 1])
        assert blocks.read(start, start + length) == data[start : start + length]
    assert blocks.sha256() == hashlib.sha256(data).hexdigest()
    assert blocks.sha256() == hashlib.sha256(data).hexdigest()
    blocks.close()


def test_what_is_read_in_order_is_fetched_ahead_once_and_hashed_on_the_way(store, opener):
    of, data = put(store, "in-order", 9 * BLOCK_BYTES)
    blocks = opener(*of)
    step = MIB // 4
    read = b"".join(blocks.read(at, at + step) for at in range(0, len(data), step))
    assert read == data
    assert blocks.sha256() == hashlib.sha256(data).hexdigest()
    assert store.figures()["corpus GET"] == {"requests": 9, "bytes": len(data)}
    blocks.close()


def test_a_single_read_fetches_no_more_than_its_block(store, opener):
    of, data = put(store, "single", 6 * BLOCK_BYTES)
    blocks = opener(*of)
    at = 4 * BLOCK_BYTES + 17
    assert blocks.read(at, at + 100) == data[at : at + 100]
    assert store.bytes_read("corpus") == BLOCK_BYTES
    blocks.close()


def test_an_object_that_changes_is_never_mixed(store, opener):
    of, _ = put(store, "changes", 3 * BLOCK_BYTES)
    blocks = opener(*of)
    blocks.read(0, 10)
    store.put("corpus", "changes", random.Random(9).randbytes(3 * BLOCK_BYTES))
    with pytest.raises(ObjectChanged):
        blocks.sha256()
    with pytest.raises(ObjectChanged):
        blocks.read(2 * BLOCK_BYTES, 2 * BLOCK_BYTES + 1)
    blocks.close()


def test_an_empty_object(store, opener):
    of, _ = put(store, "empty", 0)
    blocks = opener(*of)
    assert blocks.read(0, 10) == b""
    assert blocks.sha256() == hashlib.sha256(b"").hexdigest()
    blocks.close()


def test_a_whole_file_is_a_file(store, cache):
    of, data = put(store, "whole.mp4", 2 * BLOCK_BYTES + 5)
    blocks = cache.open(*of)
    assert not blocks.whole
    blocks.sha256()
    assert blocks.whole
    assert Path(blocks.path).read_bytes() == data
    assert blocks.path.endswith(".mp4")
    blocks.close()
    again = cache.open(*of)
    assert again.whole
    again.close()
    assert store.bytes_read("corpus") == len(data)


READER = """
import sys
from pipeline.storage.cache import Cache
folder, uri, stamp, size = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
blocks = Cache(folder, 2**30).open(uri, stamp, int(size))
print(blocks.sha256())
blocks.close()
"""


def test_processes_that_read_at_once_fetch_each_block_once(store, tmp_path):
    of, data = put(store, "shared", 12 * BLOCK_BYTES)
    store.tell(slow=1.0, seconds=0.1)
    command = [sys.executable, "-c", READER, str(tmp_path), *map(str, of)]
    readers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for reader in readers:
        assert reader.stdout.readline() == "ready\n"
    for reader in readers:
        reader.stdin.write("\n")
        reader.stdin.flush()
    said = [reader.communicate(timeout=300)[0].strip() for reader in readers]
    assert said == [hashlib.sha256(data).hexdigest()] * 3
    assert store.figures()["corpus GET"] == {"requests": 12, "bytes": len(data)}


def held_by(cache: Cache) -> set[str]:
    return {e.name for e in os.scandir(cache.folder) if e.is_dir()}


def test_what_was_used_longest_ago_goes_first(store, tmp_path):
    cache = Cache(str(tmp_path), 10 * MIB)
    objects_ = [put(store, f"lru/{i}", 3 * MIB)[0] for i in range(3)]
    for of in objects_:
        blocks = cache.open(*of)
        blocks.sha256()
        blocks.close()
    oldest, middle, youngest = sorted(
        os.scandir(cache.folder), key=lambda e: e.stat().st_mtime_ns * e.is_dir()
    )[-3:]
    cache.open(*objects_[0]).close()  # Used again: the second is the oldest now.
    of, _ = put(store, "lru/next", 3 * MIB)
    cache.open(*of).close()
    assert middle.name not in held_by(cache)
    assert {oldest.name, youngest.name} <= held_by(cache)
    assert sum(f.stat().st_size for f in Path(cache.folder).rglob("video*")) <= 10 * MIB


def test_what_is_in_use_stays_and_then_there_is_no_room(store, tmp_path):
    cache = Cache(str(tmp_path), 10 * MIB)
    first, data = put(store, "use/1", 6 * MIB)
    second, _ = put(store, "use/2", 6 * MIB)
    blocks = cache.open(*first)
    assert cache.open(*second) is None
    assert blocks.read(0, len(data)) == data
    blocks.close()
    other = cache.open(*second)
    assert other is not None
    assert len(held_by(cache)) == 1
    other.close()
    larger, _ = put(store, "use/3", 11 * MIB)
    assert cache.open(*larger) is None
    assert len(held_by(cache)) == 1, "nothing goes for what has no place anyway"


def test_what_a_killed_process_left_half_made_goes(store, tmp_path):
    cache = Cache(str(tmp_path), 10 * MIB)
    of, data = put(store, "half", 6 * MIB)
    half = Path(cache.folder, "0123.half")
    half.mkdir()
    (half / "video.mp4").write_bytes(bytes(6 * MIB))
    Path(cache.folder, "total").write_text(str(6 * MIB))
    blocks = cache.open(*of)
    assert blocks.read(0, 10) == data[:10]
    assert not half.exists()
    blocks.close()


def test_a_block_that_was_not_wholly_written_is_not_there(store, cache, monkeypatch):
    """Its mark comes last: a process that dies in between leaves none."""
    of, data = put(store, "died", BLOCK_BYTES)
    pwrite = os.pwrite

    def full(descriptor, some, at):
        if len(some) == 1:
            raise OSError(28, "No space left on device")
        return pwrite(descriptor, some, at)

    blocks = cache.open(*of)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match=r"No space left on device; set decode\.cache"):
            blocks.read(0, 10)
    assert not blocks.whole
    assert blocks.read(0, 10) == data[:10]
    assert store.bytes_read("corpus") == 2 * len(data)
    blocks.close()


def test_nobody_else_may_look_or_write(store, tmp_path):
    cache = Cache(str(tmp_path), None)
    assert stat.S_IMODE(os.stat(cache.folder).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(os.path.dirname(cache.folder)).st_mode) == 0o700
    os.chmod(cache.folder, 0o777)
    with pytest.raises(UsageError, match=r"is open to others; chmod 700 it"):
        Cache(str(tmp_path), None)
    os.rename(cache.folder, tmp_path / "away")
    os.symlink(tmp_path / "away", cache.folder)
    with pytest.raises(UsageError, match="not a folder of this user"):
        Cache(str(tmp_path), None)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"set decode\.cache_folder"):
        Cache(str(tmp_path / "file"), None)


def test_nothing_of_before_a_restart_is_believed(store, tmp_path, monkeypatch):
    of, _ = put(store, "boot", BLOCK_BYTES)
    before = Cache(str(tmp_path), None)
    before.open(*of).close()
    monkeypatch.setattr(cache_module, "boot", lambda: "another")
    after = Cache(str(tmp_path), None)
    assert after.folder != before.folder
    assert not held_by(after)
    old = os.stat(before.folder).st_mtime - 2 * 86400
    os.utime(os.path.join(before.folder, "lock"), (old, old))
    kept = tmp_path / os.path.basename(os.path.dirname(before.folder)) / "frames"
    kept.mkdir(0o700)
    (kept / "lock").touch()
    os.utime(kept / "lock", (old, old))
    Cache(str(tmp_path), None)
    assert not os.path.exists(before.folder)
    assert kept.exists(), "that of decoded frames, which may be in the same folder"


def test_errors_of_blocks_on_their_way_are_told(store, opener, monkeypatch):
    of, _ = put(store, "away", 8 * BLOCK_BYTES)
    blocks = opener(*of)
    blocks.read(0, 1)
    store.tell(refuse=1.0)
    with pytest.raises(StoreError, match="access refused"):
        blocks.sha256()
    store.tell()
    assert len(blocks.sha256()) == 64
    blocks.close()
