"""Index and decode: every frame at its own index, in displayed orientation, for every form."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import DecodeConfig
from pipeline.demo.pattern import read_index
from pipeline.errors import VideoError
from pipeline.sources.decode import decode_shard
from pipeline.sources.index import index_video
from pipeline.sources.plan import Grid, plan_video
from tests.conftest import REAL_VIDEOS
from tests.sources.decoding import LIMITS, owned_frames, plain_decode, source_of
from tests.videos import FORMS, HEIGHT, WIDTH, make, uneven


@pytest.fixture(scope="module", params=[*FORMS, "uneven.mp4"])
def form(request, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("forms") / request.param
    settings = uneven(60) if request.param == "uneven.mp4" else FORMS[request.param]
    return make(path, 60, **settings)


def test_index_equals_a_plain_decode(form):
    index = index_video(source_of(form), LIMITS)
    plain = plain_decode(form)
    assert index.frame_count == 60
    assert index.exact_pts
    assert index.pts.tolist() == [pts for pts, _ in plain]
    assert (index.width, index.height) == (WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("length", "step", "stride", "shard_frames"),
    [(1, 1, 1, 1), (7, 7, 1, 20), (32, 16, 4, 16), (1000, 1000, 1, 1024), (8, 3, 7, 10)],
)
def test_every_frame_comes_once_and_carries_its_own_index(form, length, step, stride, shard_frames):
    grid = Grid({"stride": stride}, length, step, shard_frames=shard_frames)
    frames, ends = owned_frames(form, grid)
    assert [i for i, _ in frames] == list(range(0, 60, stride))
    assert [read_index(picture) for _, picture in frames] == [i for i, _ in frames]
    assert not any(end.missing or end.missing_reason for end in ends)


def test_pixels_equal_a_plain_decode(form):
    frames, _ = owned_frames(form, Grid({"stride": 1}, 16, 16, shard_frames=20))
    for (_, picture), (_, expected) in zip(frames, plain_decode(form), strict=True):
        np.testing.assert_array_equal(picture, expected)


def test_planes_are_ffmpegs_own(tmp_path):
    import av

    path = make(tmp_path / "a.mp4", 20, gop=5, b_frames=2)
    frames, _ = owned_frames(path, Grid({"stride": 1}, 8, 8), wanted="yuv420p")
    with av.open(str(path)) as container:
        for (_, planes), frame in zip(frames, container.decode(video=0), strict=True):
            np.testing.assert_array_equal(planes, frame.to_ndarray())


def test_keyframe_sampling(tmp_path):
    path = make(tmp_path / "a.mp4", 60, gop=10)
    frames, _ = owned_frames(path, Grid({"keyframes": True}, 4, 4))
    assert [i for i, _ in frames] == index_video(source_of(path), LIMITS).keyframes.tolist()
    assert [read_index(p) for _, p in frames] == [0, 10, 20, 30, 40, 50]


def test_opencv_agrees_where_nothing_is_odd(tmp_path):
    path = make(tmp_path / "a.mp4", 40, gop=10, b_frames=2)
    grid = Grid({"stride": 3}, 8, 8, decoder="opencv")
    frames, ends = owned_frames(path, grid, DecodeConfig(backend="opencv"))
    assert [read_index(p) for _, p in frames] == list(range(0, 40, 3))
    assert not any(end.missing for end in ends)


def test_corrupt_packets_lose_their_frames_and_no_others_index(tmp_path):
    path = make(tmp_path / "a.ts", 60, gop=10)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 1880] = b"\xff" * 1880
    path.write_bytes(bytes(data))
    frames, ends = owned_frames(path, Grid({"stride": 1}, 8, 8))
    index = index_video(source_of(path), LIMITS)
    times = {int(p): i for i, p in enumerate(index.pts)}
    whole = [read_index(p) for _, p in frames]
    assert len(frames) + sum(b - a for end in ends for a, b in end.missing) == index.frame_count
    assert len(frames) > 40
    # What can be read of the pattern ascends: no frame stands at another's place.
    readable = [(i, w) for (i, _), w in zip(frames, whole, strict=True) if w is not None]
    assert [w for _, w in readable] == sorted(w for _, w in readable)
    assert len(times) == index.frame_count


def test_resolution_change_gives_parts_of_each_size(tmp_path):
    import av

    # Annex B in a transport stream: two encodes one after the other are one stream.
    parts = []
    for number, size in enumerate([(128, 96), (192, 128)]):
        part = tmp_path / f"{number}.ts"
        from pipeline.demo.video import write_video
        from tests.videos import numbered

        write_video(part, numbered(10, *size), gop=5)
        parts.append(part)
    joined = tmp_path / "joined.ts"
    with av.open(str(joined), "w") as out:
        stream, shift = None, 0
        for part in parts:
            with av.open(str(part)) as reader:
                packets = [p for p in reader.demux(video=0) if p.dts is not None]
                stream = stream or out.add_stream_from_template(reader.streams.video[0])
                for packet in packets:
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = stream
                    out.mux(packet)
                shift += 10 * 3000
    source = source_of(joined)
    (task,) = plan_video(source, index_video(source, LIMITS), Grid({"stride": 1}, 32, 32))
    clip, _end = decode_shard(task, 1, DecodeConfig(), "rgb24")
    sizes = [(part.width, part.height, len(part)) for part in clip.parts]
    assert sizes == [(128, 96, 10), (192, 128, 10)]
    assert [len(positions) for positions, _ in clip.owned()] == [10, 10]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "not a video"), (b"hello, I am text" * 100, "not a video")],
)
def test_no_video(tmp_path, content, reason):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=reason):
        index_video(source_of(path), LIMITS)


def test_a_playlist_named_mp4_opens_nothing(tmp_path):
    make(tmp_path / "secret.mp4", 5)
    path = tmp_path / "a.mp4"
    path.write_text("ffconcat version 1.0\nfile secret.mp4\n")
    with pytest.raises(VideoError, match="not a video"):
        index_video(source_of(path), LIMITS)


def test_too_many_pixels_are_refused(tmp_path):
    path = make(tmp_path / "a.mp4", 3)
    with pytest.raises(VideoError, match=r"128x96: above decode\.max_pixels"):
        index_video(source_of(path), DecodeConfig(max_pixels=1000))


def test_a_file_that_changed_is_refused(tmp_path):
    path = make(tmp_path / "a.mp4", 5)
    source = source_of(path)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(VideoError, match="changed during the run"):
        index_video(source, LIMITS)


def test_colours_that_ffmpeg_cannot_convert_are_the_videos_fault(tmp_path):
    path = make(tmp_path / "a.mp4", 10, options={"x264-params": "colormatrix=YCgCo"})
    with pytest.raises(VideoError, match="into RGB"):
        owned_frames(path, Grid({"stride": 1}, 8, 8))


def test_real_videos_equal_a_plain_decode(real_video):
    plain = plain_decode(real_video)
    index = index_video(source_of(real_video), LIMITS)
    assert index.pts.tolist() == [pts for pts, _ in plain]
    frames, ends = owned_frames(real_video, Grid({"stride": 4}, 7, 7, shard_frames=100))
    assert [i for i, _ in frames] == list(range(0, len(plain), 4))
    for i, picture in frames:
        np.testing.assert_array_equal(picture, plain[i][1])
    assert not any(end.missing for end in ends)


def test_the_better_stream_of_the_nasa_video():
    path = REAL_VIDEOS / "nasa_13013.mp4"
    if not path.exists():
        pytest.skip("the real video nasa_13013.mp4 is not here (../shared/videos)")
    index = index_video(source_of(path), LIMITS)
    published = json.loads(path.with_name("nasa_13013.stream3.frames.json").read_text())
    rows = published["frames"] if isinstance(published, dict) else published
    seconds = [float(Fraction(row["pts_time"])) for row in rows]
    assert index.stream_index == 3
    np.testing.assert_allclose(index.pts_seconds(index.pts), seconds, atol=2e-6)
