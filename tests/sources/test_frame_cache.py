"""Which files hold a shard; and two runs that keep the same at once."""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipeline.clip_pixels import ClipPixels
from pipeline.config import CacheConfig, DecodeConfig
from pipeline.demo.pattern import read_index
from pipeline.records import ShardEnd
from pipeline.sources.decode import decode_shard
from pipeline.sources.frame_cache import FrameCache, covering
from pipeline.sources.index import index_video
from pipeline.sources.plan import Grid, plan_video
from tests.sources.decoding import LIMITS, source_of
from tests.videos import make

RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 15)).map(lambda r: (r[0], sum(r))))


@given(RANGES, st.integers(0, 40), st.integers(1, 20))
def test_a_cover_takes_every_position_once_from_who_has_it(ranges, start, length):
    stop = start + length
    chosen = covering(ranges, start, stop)
    held = {at for a, b in ranges for at in range(a, b)}
    assert (chosen is not None) == (held >= set(range(start, stop)))
    if chosen is None:
        return
    assert [at for _, (a, b) in chosen for at in range(a, b)] == list(range(start, stop))
    for (a, b), (first, last) in chosen:
        assert (a, b) in ranges
        assert a <= first < last <= b
    # Greedy is least: no two of its steps can be had in one.
    for (_, (first, _)), (_, (_, last)) in pairwise(chosen):
        assert not any(a <= first and last <= b for a, b in ranges)


class Shelved:
    """One shard of a small video, and a cache beneath a folder."""

    def __init__(self, folder, name="a.mp4", count=40, side=96, stride=1):
        self.path = folder / name
        if not self.path.exists():
            make(self.path, count, gop=10, width=160, height=120)
        self.folder = folder / "cache"
        self.side = side
        source = source_of(self.path)
        grid = Grid(sampling={"stride": stride}, length=8, step=8)
        (self.task,) = plan_video(source, index_video(source, LIMITS), grid)
        self.decoded = 0

    def cache(self, **settings) -> FrameCache:
        config = CacheConfig(folder=str(self.folder), height=self.side, **settings)
        return FrameCache(config, {"sampling": {"stride": 1}}, "pyav")

    def decode(self):
        self.decoded += 1
        return decode_shard(self.task, 1, DecodeConfig(), None, scaled_side=self.side)

    def items(self, cache, attempt=1):
        return cache.items(self.task, attempt, self.decode, read=True)

    def files(self):
        return sorted(path.name for path in self.folder.rglob("*-*.npy*"))


def frames_of(items, task) -> list[int]:
    """The indices that the pictures carry, which must be those that they go by."""
    carried = []
    for item in items:
        if isinstance(item, ClipPixels):
            for positions, pixels in item.owned(scaled=True):
                read = [read_index(frame) for frame in pixels.data]
                assert read == task.sampled[positions - task.base].tolist()
                carried += read
    return carried


def test_every_picture_is_that_of_its_index(tmp_path):
    shelved = Shelved(tmp_path, stride=3)
    first = frames_of(shelved.items(shelved.cache()), shelved.task)
    again = frames_of(shelved.items(shelved.cache()), shelved.task)
    assert first == again == list(range(0, 40, 3))
    assert shelved.decoded == 1


def test_of_two_that_keep_the_same_at_once_one_does(tmp_path):
    shelved = Shelved(tmp_path)
    one, other = shelved.items(shelved.cache()), shelved.items(shelved.cache())
    next(one)
    next(other)
    # Neither is there yet, whoever looks.
    assert len(shelved.files()) == 2
    assert all(name.endswith(".half") for name in shelved.files())
    third = shelved.items(shelved.cache())
    assert isinstance(next(third), ClipPixels)
    third.close()
    list(one)
    (written,) = shelved.folder.rglob("*.npy")
    found = written.stat()
    list(other)
    assert shelved.files() == ["0-40.npy"]
    assert written.stat().st_ino == found.st_ino
    assert shelved.decoded == 3
    frames_of(shelved.items(shelved.cache()), shelved.task)
    assert shelved.decoded == 3


def test_what_is_not_gone_through_to_its_end_is_not_kept(tmp_path):
    shelved = Shelved(tmp_path)
    items = shelved.items(shelved.cache())
    next(items)
    items.close()
    assert shelved.files() == []


def test_a_second_attempt_is_decoded(tmp_path):
    shelved = Shelved(tmp_path)
    list(shelved.items(shelved.cache()))
    list(shelved.items(shelved.cache(), attempt=2))
    assert shelved.decoded == 2


def test_damage_that_is_met_on_the_way_costs_no_clip_and_doubles_none(tmp_path):
    shelved = Shelved(tmp_path)
    expected = frames_of(shelved.items(shelved.cache()), shelved.task)
    (written,) = shelved.folder.rglob("*.npy")
    data = bytearray(written.read_bytes())
    data[3 * len(data) // 4] ^= 1
    written.write_bytes(bytes(data))
    items = list(shelved.items(shelved.cache()))
    assert frames_of(items, shelved.task) == expected
    assert shelved.decoded == 2
    assert [type(item) for item in items] == [ClipPixels] * 5 + [ShardEnd]


def test_a_shard_that_was_not_decoded_whole_is_not_kept(tmp_path):
    shelved = Shelved(tmp_path)

    def in_part():
        for item in shelved.decode():
            yield replace(item, missing=((7, 8),)) if isinstance(item, ShardEnd) else item

    items = list(shelved.cache().items(shelved.task, 1, in_part, read=True))
    assert items[-1].missing == ((7, 8),)
    assert shelved.files() == []


def test_a_picture_that_changes_its_size_is_not_kept(tmp_path):
    shelved = Shelved(tmp_path)

    def changing():
        for item in shelved.decode():
            if isinstance(item, ClipPixels) and item.clip.clip_index == 3:
                small = tuple(replace(part, scaled_from=(640, 480)) for part in item.scaled)
                item = replace(item, scaled=small)
            yield item

    assert len(list(shelved.cache().items(shelved.task, 1, changing, read=True))) == 6
    assert shelved.files() == []


TURNS = {"a.mp4": 40, "b.mp4": 48}


def taken_in_turns(folder: Path, seed: int) -> tuple[int, int]:
    """Two shards again and again, in an order of its own, through a cache with room for one and a
    half of them. Returns how often one was there, and how often it was not."""
    chance = random.Random(seed)
    shards = [Shelved(folder, name, count) for name, count in TURNS.items()]
    for _ in range(30):
        shelved = chance.choice(shards)
        # Another each time: what was kept before may go.
        cache = shelved.cache(budget_gb=1.5 * 48 * 96 * 128 * 3 / 1e9)
        frames = frames_of(shelved.items(cache), shelved.task)
        assert frames == shelved.task.sampled.tolist()
    decoded = sum(shelved.decoded for shelved in shards)
    return 30 - decoded, decoded


def test_processes_that_keep_read_and_push_out_at_once_all_get_their_frames(tmp_path):
    for name, count in TURNS.items():
        Shelved(tmp_path, name, count)
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(taken_in_turns, [tmp_path] * 3, range(3)))
    assert sum(hits for hits, _ in found) > 0
    assert sum(decoded for _, decoded in found) > 2
    files = Shelved(tmp_path).files()
    assert len(files) == 1
    assert not files[0].endswith(".half")
