"""The pictures of given frames are those frames, whatever the video's form."""

from __future__ import annotations

import os
import shutil
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config_file import parse_config
from pipeline.demo.pattern import read_index
from pipeline.errors import UsageError, VideoError
from pipeline.ledger.reader import Ledger
from pipeline.records import VideoIndex
from pipeline.results.pixels import NEAR_FRAMES, decode_frames, passes, read_frames
from pipeline.runner import run
from pipeline.sources.index import index_video
from tests.sources.decoding import LIMITS, plain_decode, source_of
from tests.videos import FORMS, WITHOUT_PTS, make, uneven

WANTED = [41, 3, 59, 4, 0, 41, 17]


@pytest.mark.parametrize("name", [*FORMS, *WITHOUT_PTS, "uneven.mp4"])
def test_each_picture_is_the_frame_asked_for(name: str, tmp_path: Path) -> None:
    settings = uneven(60) if name == "uneven.mp4" else (FORMS | WITHOUT_PTS)[name]
    source = source_of(make(tmp_path / name, 60, **settings))
    found = list(decode_frames(source, index_video(source, LIMITS), WANTED))
    assert [i for i, _ in found] == sorted(set(WANTED))
    assert [read_index(rgb) for _, rgb in found] == sorted(set(WANTED))
    plain = plain_decode(tmp_path / name)
    for i, rgb in found:
        np.testing.assert_array_equal(rgb, plain[i][1])


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Two videos, one of them under two names, and a run over them."""
    folder = tmp_path_factory.mktemp("pixels")
    make(folder / "videos" / "a.mp4", 120, gop=10, b_frames=2)
    make(folder / "videos" / "b.mp4", 30)
    shutil.copy(folder / "videos" / "a.mp4", folder / "videos" / "copy.mp4")
    config = parse_config({"sampling": {"stride": 8}}, where="test")
    run(config, [str(folder / "videos")], folder / "out", engine="local")
    return folder


@pytest.fixture
def corpus(made: Path, tmp_path: Path, monkeypatch) -> tuple[Ledger, Path]:
    """The ledger, and its videos where the rows say, for tests that change them."""
    yield Ledger(made / "out"), made / "videos"
    for name in ("a.mp4", "b.mp4", "copy.mp4"):
        assert (made / "videos" / name).exists(), "a test left a video changed"


def test_frames_by_uri_and_by_id_sampled_or_not(corpus) -> None:
    ledger, videos = corpus
    video = str(videos / "a.mp4")
    for name in (video, ledger.index(video).video_id):
        found = [(i, read_index(rgb)) for i, rgb in read_frames(ledger, name, [119, 8, 9])]
        assert found == [(8, 8), (9, 9), (119, 119)]


def test_a_picture_is_the_callers_own(corpus) -> None:
    ledger, videos = corpus
    kept = [rgb for _, rgb in read_frames(ledger, str(videos / "b.mp4"), range(5))]
    assert [read_index(rgb) for rgb in kept] == [0, 1, 2, 3, 4]
    assert all(rgb.flags.writeable and rgb.dtype == np.uint8 for rgb in kept)


def test_another_file_with_the_same_bytes_will_do(corpus) -> None:
    ledger, videos = corpus
    (videos / "a.mp4").rename(videos / "away")
    try:
        found = [read_index(rgb) for _, rgb in read_frames(ledger, str(videos / "a.mp4"), [5])]
    finally:
        (videos / "away").rename(videos / "a.mp4")
    assert found == [5]


def test_a_file_that_is_gone_or_has_other_bytes_is_one_line(corpus) -> None:
    ledger, videos = corpus
    video = videos / "b.mp4"
    video.rename(videos / "away")
    try:
        with pytest.raises(VideoError, match=rf"^video {video}: No such file or directory$"):
            read_frames(ledger, str(video), [1])
        make(video, 31)
        with pytest.raises(VideoError, match=rf"^video {video}: the file has other bytes now$"):
            read_frames(ledger, str(video), [1])
    finally:
        (videos / "away").rename(video)


def test_a_file_that_was_only_touched_is_the_same(corpus) -> None:
    ledger, videos = corpus
    times = os.stat(videos / "b.mp4")
    os.utime(videos / "b.mp4", ns=(1, 1))
    try:
        found = [read_index(rgb) for _, rgb in read_frames(ledger, str(videos / "b.mp4"), [7])]
    finally:
        os.utime(videos / "b.mp4", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert found == [7]


@pytest.mark.parametrize("frame", [-1, 30])
def test_a_frame_that_is_not_there_is_one_line(corpus, frame: int) -> None:
    ledger, videos = corpus
    with pytest.raises(UsageError, match=rf"b\.mp4: no frame {frame}; it has 30, from 0 to 29$"):
        read_frames(ledger, str(videos / "b.mp4"), [2, frame])


def test_a_frame_that_cannot_be_decoded_is_said(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", 60, gop=60)
    whole = index_video(source_of(path), LIMITS)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + len(data) // 2
    data[start : start + 2000] = bytes(2000)
    path.write_bytes(data)
    with pytest.raises(VideoError, match=rf"^video {path}: frame \d+: \d+ corrupt packets"):
        list(decode_frames(source_of(path), whole, range(60)))


def test_frames_close_together_share_a_pass() -> None:
    index = _index(1000, 100)
    assert passes([5, 60, 105], index) == [[5, 60], [105]]
    assert passes([5, 80, 105], index) == [[5, 80, 105]]
    assert passes([5, 900, 980], index) == [[5], [900, 980]]
    assert passes([], index) == []
    assert passes([5, 900], _index(1000, 100, exact_pts=False)) == [[5, 900]]


@given(st.sets(st.integers(0, 999)), st.integers(1, 400))
def test_passes_hold_every_frame_once_in_order(wanted: set[int], gop: int) -> None:
    index = _index(1000, gop)
    groups = passes(sorted(wanted), index)
    assert [frame for group in groups for frame in group] == sorted(wanted)
    for before, group in pairwise(groups):
        assert group[0] // gop * gop > before[-1] + NEAR_FRAMES


def _index(frames: int, gop: int, exact_pts: bool = True) -> VideoIndex:
    keyframes = np.arange(0, frames if exact_pts else 1, gop, dtype=np.int64)
    pts = np.arange(frames, dtype=np.int64)
    video = ("mp4", "h264", "yuv420p", 64, 48, 0)
    return VideoIndex("id", pts, keyframes, Fraction(1, 30), 0, *video, frames / 30, exact_pts)
