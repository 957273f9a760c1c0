"""Runs with a frame cache: what they write, what they read, and what becomes of trouble."""

from __future__ import annotations

import os
import resource
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.config import Config
from pipeline.config_file import parse_config
from pipeline.deep_verify import deep_verify
from pipeline.demo.video import write_video
from pipeline.demo.world import World
from pipeline.errors import UsageError
from pipeline.ledger.analyses import newest_analyses
from pipeline.ledger.reader import Ledger
from pipeline.ledger.verify import verify
from pipeline.runner import run
from pipeline.sources.frame_cache import FrameCache
from tests.videos import make, uneven

SIDE = 96
PROBE = {"backend": "probe"}
CLIP = {"backend": "clip", "model": "builtin:clip"}
DETECTOR = {"backend": "transformers", "model": "builtin:detector"}


def config_of(
    folder: Path, embedder: object = PROBE, side: int = SIDE, **settings: object
) -> Config:
    cache = {"height": side, "folder": str(folder)}
    data = {"clip": {"length": 8}, "cache": cache, "embedder": embedder, **settings}
    data = {key: value for key, value in data.items() if value is not None}
    return parse_config(data, where="test")


@pytest.fixture
def corpus(tmp_path) -> Path:
    folder = tmp_path / "corpus"
    make(folder / "a.mp4", 60, gop=10, b_frames=2, width=160, height=120)
    make(folder / "b.mkv", 35, width=160, height=120, **uneven(35))
    make(folder / "c.mp4", 20, gop=5, rotation=90, width=120, height=160)
    return folder


def hollow(folder: Path) -> None:
    """Files keep their names, sizes and times, and lose what is in them: who reads one fails."""
    for path in folder.iterdir():
        found = path.stat()
        path.write_bytes(b"\0" * found.st_size)
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def embeddings(output: Path) -> dict[tuple[str, int], np.ndarray]:
    """The newest, by video and frame."""
    table = Ledger(output).table("embeddings")
    keys = zip(table["video_id"].to_pylist(), table["frame_index"].to_pylist(), strict=True)
    return dict(zip(keys, table["embedding"].to_numpy(), strict=True))


def of_the_newest(output: Path, name: str = "embedder") -> dict[str, object]:
    return dict(newest_analyses(Ledger(output).analyses())[name].identity)


def assert_same(one: dict, other: dict, tolerance: float = 0.0) -> None:
    assert one.keys() == other.keys()
    assert one
    for key, vector in one.items():
        assert np.abs(vector - other[key]).max() <= tolerance, key


def kept_files(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.npy"))


def test_another_embedder_reads_no_video_byte(corpus, tmp_path):
    cache, out = tmp_path / "cache", tmp_path / "out"
    first = run(config_of(cache), [str(corpus)], out, engine="local")
    assert (first.frames, first.cached_frames, first.exit_code) == (115, 0, 0)
    assert len(kept_files(cache)) == 3
    fresh = tmp_path / "fresh"
    run(config_of(tmp_path / "other", CLIP), [str(corpus)], fresh, engine="local")
    hollow(corpus)
    second = run(config_of(cache, CLIP), [str(corpus)], out, engine="local")
    assert (second.frames, second.cached_frames, second.exit_code) == (115, 115, 0)
    # The batches are the same, and so is every bit.
    assert_same(embeddings(out), embeddings(fresh))
    assert verify(str(out)).sound


COSINE = 0.999
"""Between embeddings of a 720p frame and of the same frame scaled to 256 lines, at least."""


def test_embeddings_of_small_frames_are_those_of_whole_ones_but_for_little(tmp_path):
    world = World(seed=7, width=1280, height=720, frame_count=12)
    video = str(write_video(tmp_path / "a.mp4", world, gop=12))
    cached = config_of(tmp_path / "cache", CLIP, side=256)
    run(cached, [video], tmp_path / "small", engine="local")
    run(cached.model_copy(update={"cache": None}), [video], tmp_path / "whole", engine="local")
    small, whole = embeddings(tmp_path / "small"), embeddings(tmp_path / "whole")
    assert small.keys() == whole.keys()
    cosines = [float(small[key] @ whole[key]) for key in whole]
    # Almost, and not by having been given the same.
    assert COSINE <= min(cosines) < 1 - 1e-6


def test_the_rows_of_frames_are_those_of_a_run_without(corpus, tmp_path):
    plain, out = tmp_path / "plain", tmp_path / "out"
    without = config_of(tmp_path / "cache").model_copy(update={"cache": None})
    run(without, [str(corpus)], plain, engine="local")
    run(config_of(tmp_path / "cache"), [str(corpus)], out, engine="local")

    def frames(output: Path) -> pa.Table:
        table = Ledger(output).table("frames").drop_columns(["run_id"])
        return table.sort_by([("video_id", "ascending"), ("frame_index", "ascending")])

    assert frames(out).equals(frames(plain))
    sizes = Counter(
        zip(*(frames(out)[side].to_pylist() for side in ("width", "height")), strict=True)
    )
    assert sizes == {(160, 120): 95, (120, 160): 20}


def test_what_was_given_small_frames_says_so(corpus, tmp_path):
    cache, out = tmp_path / "cache", tmp_path / "out"
    without = config_of(cache).model_copy(update={"cache": None})
    run(without, [str(corpus)], out, engine="local")
    whole = of_the_newest(out)
    run(config_of(cache), [str(corpus)], out, engine="local")
    small = of_the_newest(out)
    assert small.pop("scaled") == {"side": SIDE, "filter": "area", "semantics": 1}
    assert small == whole  # The frames analysis among it: its rows are not made twice.
    assert Ledger(out).table("frames").num_rows == 115
    # From the cache or not, it is the same analysis: there is nothing left to do.
    again = run(config_of(tmp_path / "other"), [str(corpus)], out, engine="local")
    assert again.did_nothing
    other_side = run(config_of(cache, side=104), [str(corpus)], out, engine="local")
    assert (other_side.frames, other_side.cached_frames) == (115, 0)


def test_a_source_that_changed_is_decoded(corpus, tmp_path):
    cache, out = tmp_path / "cache", tmp_path / "out"
    run(config_of(cache), [str(corpus)], out, engine="local")
    make(corpus / "a.mp4", 40, gop=10, width=160, height=120)
    summary = run(config_of(cache, CLIP), [str(corpus)], out, engine="local")
    assert (summary.frames, summary.cached_frames) == (95, 55)
    hollow(corpus)
    (corpus / "c.mp4").write_bytes(b"no video any more")
    summary = run(config_of(cache), [str(corpus)], out, engine="local")
    # Of the three, the first has its new content's frames there since the run before.
    assert (summary.videos_failed, summary.frames, summary.cached_frames) == (1, 40, 40)


@pytest.mark.parametrize(
    "change",
    [
        {"sampling": {"stride": 2}},
        {"side": 104},
        {"decode": {"backend": "opencv"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_was_kept_of_other_pictures_is_not_used(corpus, tmp_path, change):
    cache = tmp_path / "cache"
    run(config_of(cache), [str(corpus)], tmp_path / "a", engine="local")
    summary = run(config_of(cache, **change), [str(corpus)], tmp_path / "b", engine="local")
    assert summary.cached_frames == 0
    assert summary.frames == (115 if "sampling" not in change else 58)
    assert len(kept_files(cache)) == 6


def test_another_clip_length_finds_the_same_frames(corpus, tmp_path):
    cache = tmp_path / "cache"
    run(config_of(cache), [str(corpus)], tmp_path / "a", engine="local")
    clip = {"length": 12, "stride": 6}
    summary = run(config_of(cache, clip=clip), [str(corpus)], tmp_path / "b", engine="local")
    assert summary.cached_frames == 115
    assert_same(embeddings(tmp_path / "a"), embeddings(tmp_path / "b"))
    assert verify(str(tmp_path / "b")).sound


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "cut":
        data = data[: len(data) // 2]
    elif how == "pixel":
        data[len(data) // 2] ^= 1
    elif how == "description":
        data[-40] ^= 1
    elif how == "empty":
        data = bytearray()
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("how", ["cut", "pixel", "description", "empty"])
def test_a_damaged_file_is_decoded_again(corpus, tmp_path, how):
    cache = tmp_path / "cache"
    run(config_of(cache), [str(corpus)], tmp_path / "a", engine="local")
    whole = {path: path.read_bytes() for path in kept_files(cache)}
    for path in whole:
        damage(path, how)
    summary = run(config_of(cache), [str(corpus)], tmp_path / "b", engine="local")
    assert (summary.frames, summary.cached_frames, summary.retries) == (115, 0, 0)
    assert_same(embeddings(tmp_path / "a"), embeddings(tmp_path / "b"))
    # And kept again.
    assert {path: path.read_bytes() for path in kept_files(cache)} == whole


def test_a_file_under_the_name_of_another_is_not_believed(corpus, tmp_path):
    cache = tmp_path / "cache"
    run(config_of(cache), [str(corpus)], tmp_path / "a", engine="local")
    one, other, _ = kept_files(cache)
    name = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(name)
    summary = run(config_of(cache), [str(corpus)], tmp_path / "b", engine="local")
    assert summary.frames == 115
    assert summary.cached_frames < 115
    assert_same(embeddings(tmp_path / "a"), embeddings(tmp_path / "b"))


@contextmanager
def full_disk(size: int):
    """The system refuses to let a file grow beyond `size`, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_fails_no_run(corpus, tmp_path):
    cache = tmp_path / "cache"
    with full_disk(0):
        FrameCache(config_of(cache).cache, {}, "pyav")  # Not even its own books can be written.
    with full_disk(1_000_000):
        summary = run(config_of(cache), [str(corpus)], tmp_path / "a", engine="local")
    assert (summary.frames, summary.exit_code) == (115, 0)
    (note,) = summary.notes
    assert "not kept; set cache.budget_gb lower, or cache.folder" in note
    assert str(cache) in note
    assert not [path for path in cache.rglob("*") if path.suffix in (".npy", ".half")]


def test_the_budget_holds(corpus, tmp_path):
    cache = tmp_path / "cache"
    one_video = 60 * 96 * 128 * 3
    config = config_of(cache)
    small = {**config.cache.model_dump(), "budget_gb": 1.2 * one_video / 1e9}
    config = config.model_copy(update={"cache": type(config.cache)(**small)})
    first = run(config, [str(corpus)], tmp_path / "a", engine="local")
    assert first.exit_code == 0
    assert "cache.budget_gb" in first.notes[0]
    held = kept_files(cache)
    assert sum(path.stat().st_size for path in held) <= 1.2 * one_video
    assert held
    # The next run uses what there is, and does not push it out for what there is no room for.
    second = run(config, [str(corpus)], tmp_path / "b", engine="local")
    assert second.cached_frames > 0
    assert kept_files(cache) == held


def test_a_detector_takes_whole_frames_and_the_embedder_beside_it_small_ones(corpus, tmp_path):
    cache, out, alone = tmp_path / "cache", tmp_path / "out", tmp_path / "alone"
    video = str(corpus / "c.mp4")
    both = config_of(cache, CLIP, detector=DETECTOR)
    first = run(both, [video], out, engine="local")
    assert first.exit_code == 0
    assert any("the detector takes whole frames" in note for note in first.notes)
    run(config_of(tmp_path / "other", CLIP), [video], alone, engine="local")
    assert_same(embeddings(out), embeddings(alone), 1e-5)
    whole = tmp_path / "whole"
    plain = both.model_copy(update={"cache": None})
    run(plain, [video], whole, engine="local")
    same = Ledger(whole).table("detections").drop_columns(["run_id"])
    assert Ledger(out).table("detections").drop_columns(["run_id"]).equals(same)
    assert same.num_rows
    assert "scaled" not in of_the_newest(out, "detector")
    # The same configuration with another embedder: the detector has nothing to do any more.
    hollow(corpus)
    changed = config_of(cache, PROBE, detector=DETECTOR)
    assert run(changed, [video], out, engine="local").cached_frames == 20


def test_an_embedder_that_wants_more_is_given_whole_frames(corpus, tmp_path):
    out, video = tmp_path / "out", str(corpus / "c.mp4")
    config = config_of(tmp_path / "cache", CLIP, side=80)
    summary = run(config, [video], out, engine="local")
    (note,) = summary.notes
    assert note.startswith("cache.height = 80: the embedder takes pictures of 96 and more")
    assert "scaled" not in of_the_newest(out)


def test_verify_deep_makes_small_frames_of_the_file(corpus, tmp_path):
    cache, out = tmp_path / "cache", tmp_path / "out"
    config = config_of(cache)
    run(config, [str(corpus)], out, engine="local")
    before = {path: path.read_bytes() for path in kept_files(cache)}
    report = deep_verify(str(out), config, sample=12, seed=3)
    assert report.embeddings
    assert [str(finding) for finding in report.findings] == []
    assert {path: path.read_bytes() for path in kept_files(cache)} == before


def test_a_folder_that_cannot_be_is_named(corpus, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match=r"set cache\.folder$"):
        run(config_of(tmp_path / "file"), [str(corpus)], tmp_path / "out", engine="local")


def test_ray_keeps_and_finds_the_same_through_its_object_store(ray_here, corpus, tmp_path):
    cache, by_ray, out = tmp_path / "cache", tmp_path / "by-ray", tmp_path / "out"
    run(config_of(cache), [str(corpus)], tmp_path / "local", engine="local")
    engine = {"placement": "split", "workers": 1}
    first = run(config_of(by_ray, engine=engine), [str(corpus)], out, engine="ray")
    assert (first.placement, first.cached_frames) == ("split", 0)
    kept = [[path.read_bytes() for path in kept_files(one)] for one in (cache, by_ray)]
    assert kept[0] == kept[1]
    hollow(corpus)
    summary = run(config_of(by_ray, CLIP, engine=engine), [str(corpus)], out, engine="ray")
    assert (summary.frames, summary.cached_frames) == (115, 115)
    assert verify(str(out)).sound


def test_of_a_store_nothing_is_read_but_what_is_there(store, corpus, tmp_path):
    for path in corpus.iterdir():
        store.put("corpus", f"cached/{path.name}", path)
    decode = {"cache_folder": str(tmp_path / "bytes")}
    cache, out = tmp_path / "cache", tmp_path / "out"
    where = ["s3://corpus/cached"]
    run(config_of(cache, decode=decode), where, out, engine="local")
    store.tell()
    elsewhere = {"cache_folder": str(tmp_path / "none")}
    summary = run(config_of(cache, CLIP, decode=elsewhere), where, out, engine="local")
    assert (summary.frames, summary.cached_frames) == (115, 115)
    assert store.bytes_read("corpus") == 0
    assert store.requests()["LIST"] > 0
