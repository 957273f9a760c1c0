"""Videos in a store, indexed and decoded in every way that the cache leaves: as local ones are."""

import dataclasses
import pickle
import subprocess
import sys

import numpy as np
import pytest

from pipeline.config import DecodeConfig
from pipeline.errors import VideoError
from pipeline.records import ShardEnd
from pipeline.sources import container
from pipeline.sources.decode import decode_shard
from pipeline.sources.discover import look
from pipeline.sources.index import index_video
from pipeline.sources.plan import Grid, plan_video
from pipeline.storage import blocks, cache
from tests.sources.decoding import LIMITS, source_of
from tests.videos import FORMS, WITHOUT_PTS, make, make_large

GRID = Grid({"stride": 1}, 16, 16, shard_frames=20)


@pytest.fixture
def small_blocks(monkeypatch):
    """So that a small video has many."""
    for module in (blocks, cache):
        monkeypatch.setattr(module, "BLOCK_BYTES", 4096)
    monkeypatch.setattr(container, "_READ_BYTES", 4096)


def limits(folder, **settings: object) -> DecodeConfig:
    return DecodeConfig(cache_folder=str(folder), **settings)


def decoded(source, index, config) -> tuple[list[tuple[int, np.ndarray]], list[ShardEnd]]:
    frames, ends = [], []
    for task in plan_video(source, index, GRID):
        for item in decode_shard(task, 1, config, "rgb24"):
            if isinstance(item, ShardEnd):
                ends.append(item)
                continue
            for positions, pixels in item.owned():
                indices = task.sampled[positions - task.base]
                frames += zip(indices.tolist(), pixels.data, strict=True)
    return frames, ends


def assert_same(one, other) -> None:
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert np.array_equal(a, b), field.name


@pytest.fixture(scope="module", params=[*FORMS, *WITHOUT_PTS])
def form(request, tmp_path_factory):
    name = request.param
    return make(tmp_path_factory.mktemp("forms") / name, 60, **{**FORMS, **WITHOUT_PTS}[name])


def test_every_form_is_what_it_is_locally(form, store, small_blocks, tmp_path):
    """From the file that indexing leaves; on another node, by ranges of a sparse file; and with no
    room on disk at all."""
    store.put("corpus", f"forms/{form.name}", form)
    local = source_of(form)
    index = index_video(local, LIMITS)
    expected, _ = decoded(local, index, LIMITS)
    source = look(f"s3://corpus/forms/{form.name}")
    store.tell()
    here = limits(tmp_path)
    assert_same(index_video(source, here), index)
    assert store.bytes_read("corpus") == source.size_bytes
    for config in (here, limits(tmp_path / "other"), limits(tmp_path / "none", cache=1)):
        frames, ends = decoded(source, index, config)
        assert [i for i, _ in frames] == [i for i, _ in expected]
        for (_, picture), (_, wanted) in zip(frames, expected, strict=True):
            assert np.array_equal(picture, wanted)
        assert not any(end.missing or end.missing_reason for end in ends)
    without = index_video(source, limits(tmp_path / "none", cache=1))
    assert_same(without, index)


@pytest.fixture
def stored(store, tmp_path):
    """A video in a store, with its header at its end."""
    path = make_large(tmp_path / "a.mp4", 200, gop=5)
    assert path.read_bytes().find(b"moov") > path.stat().st_size // 2
    store.put("corpus", "stored/a.mp4", path)
    source = look("s3://corpus/stored/a.mp4")
    store.tell()
    return path, source


def test_the_end_of_an_mp4_costs_itself_once(store, stored, small_blocks, tmp_path):
    _, source = stored
    index = index_video(source, limits(tmp_path))
    task = plan_video(source, index, GRID)[-1]
    for config in (limits(tmp_path / "other"), limits(tmp_path / "none", cache=1)):
        store.tell()
        assert list(decode_shard(task, 1, config, "rgb24"))
        assert store.bytes_read("corpus") < source.size_bytes / 2
    store.tell()
    index_video(source, limits(tmp_path / "none", cache=1))
    again = 4 * 4096  # The end, for the header; the frames before it; the end, for the sha256.
    assert store.bytes_read("corpus") <= source.size_bytes + again


def test_what_is_on_this_node_is_not_asked_for_again(store, stored, tmp_path):
    _, source = stored
    index = index_video(source, limits(tmp_path))
    store.tell(refuse=1.0)
    frames, _ = decoded(source, index, limits(tmp_path))
    assert len(frames) == 200


def test_opencv_gets_the_whole_file_or_says_what_it_lacks(store, stored, tmp_path):
    path, source = stored
    index = index_video(source_of(path), LIMITS)
    grid = dataclasses.replace(GRID, decoder="opencv")
    (task,) = plan_video(source, index, grid)
    config = limits(tmp_path, backend="opencv")
    items = list(decode_shard(task, 1, config, "rgb24"))
    assert sum(len(item.positions) for item in items if not isinstance(item, ShardEnd)) == 200
    tiny = limits(tmp_path / "other", backend="opencv", cache=1000)
    with pytest.raises(VideoError, match=r"needs on disk: above decode\.cache = 1000") as raised:
        list(decode_shard(task, 1, tiny, "rgb24"))
    assert not raised.value.systemic


@pytest.mark.parametrize("room", ["disk", "memory"])
@pytest.mark.parametrize("moment", ["before", "in the middle"])
def test_an_object_that_is_replaced_is_never_mixed(
    store, stored, small_blocks, tmp_path, room, moment
):
    path, source = stored
    other = make_large(tmp_path / "other.mp4", 200, gop=25)
    config = limits(tmp_path / "node", **({"cache": 1} if room == "memory" else {}))
    index = index_video(source_of(path), LIMITS)
    task = plan_video(source, index, Grid({"stride": 1}, 8, 8))[0]
    items = decode_shard(task, 1, config, "rgb24")
    if moment == "in the middle":
        next(items)
    store.put("corpus", "stored/a.mp4", other)
    with pytest.raises(VideoError, match="the file changed during the run") as raised:
        list(items)
    assert (raised.value.stage, raised.value.systemic) == ("decode", False)
    with pytest.raises(VideoError, match="the file changed during the run"):
        index_video(source, config)


def test_an_object_that_is_gone(store, stored, tmp_path):
    _, source = stored
    store.delete("corpus", "stored/a.mp4")
    with pytest.raises(VideoError, match="no such object") as raised:
        index_video(source, limits(tmp_path))
    assert not raised.value.systemic


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_a_store_that_fails_in_the_middle_is_no_end_of_a_file(store, small_blocks, tmp_path, name):
    """Demuxers take an error for the end of the file, some of them in silence."""
    path = make_large(tmp_path / name, 60, gop=5)
    store.put("corpus", f"middle/{name}", path)
    source = look(f"s3://corpus/middle/{name}")
    index = index_video(source_of(path), LIMITS)
    task = plan_video(source, index, Grid({"stride": 1}, 8, 8))[0]
    items = decode_shard(task, 1, limits(tmp_path / "none", cache=1), "rgb24")
    next(items)
    store.tell(refuse=1.0)
    with pytest.raises(VideoError, match="access refused") as raised:
        list(items)
    assert raised.value.systemic


CAPPED = """
import pickle, sys
from pipeline.config import DecodeConfig
from pipeline.sources.decode import decode_shard, load_decoder
from pipeline.sources.memory_cap import MemoryCap
from pipeline.storage import blocks

blocks.BLOCK_BYTES = 2**16  # Several at once.
task, config = pickle.load(sys.stdin.buffer)
load_decoder(config)
cap = MemoryCap(40 * 2**20)
cap.begin()
with cap.applied():
    print(len(list(decode_shard(task, 1, config, "rgb24"))))
"""


def test_what_a_client_takes_counts_for_no_video(store, stored, tmp_path):
    """In a process that has not asked a store before: the client's threads alone take more address
    space than the cap leaves, and one that cannot start would end the process."""
    _, source = stored
    index = index_video(source, limits(tmp_path))
    task = plan_video(source, index, GRID)[0]
    given = pickle.dumps((task, limits(tmp_path / "none", cache=1)))
    command = [sys.executable, "-c", CAPPED]
    ended = subprocess.run(command, input=given, capture_output=True, timeout=300)
    assert (ended.returncode, ended.stdout.strip()) == (0, b"3"), ended.stderr.decode()
