"""The index: which frames there are, and when they are shown."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.demo.pattern import read_index
from pipeline.errors import VideoError
from pipeline.sources.index import NO_PTS, filled, index_video, presentation_order, tell_apart
from pipeline.sources.plan import Grid
from pipeline.sources.sampling import sampled_frames
from tests.sources.decoding import LIMITS, owned_frames, plain_decode, source_of
from tests.videos import WITHOUT_PTS, make


def test_missing_and_repeated_pts():
    assert tell_apart([0, 2, 1], [-1, 0, 1])
    assert tell_apart([0, 2, 1], [])
    assert not tell_apart([NO_PTS, 2, 1], [0, 1, 2])
    assert not tell_apart([0, 1, 1], [0, 1, 2])
    # Two streams one behind the other.
    assert not tell_apart([0, 10, 20, 5, 15], [0, 10, 20, 5, 15])


def test_presentation_order():
    pts, keyframes = presentation_order([0, 3, 1, 2, 4], [True, False, False, True, False])
    assert pts.tolist() == [0, 1, 2, 3, 4]
    assert keyframes.tolist() == [0, 2]
    assert presentation_order([5, 6], [False, True])[1].tolist() == [0, 1]


def test_missing_pts_lie_evenly_between_their_neighbours():
    assert filled([10, NO_PTS, 30, 40, NO_PTS], 7).tolist() == [10, 20, 30, 40, 47]
    assert filled([NO_PTS, NO_PTS, 30], 10).tolist() == [10, 20, 30]
    assert filled([NO_PTS, NO_PTS, NO_PTS], 2.5).tolist() == [0, 2, 5]
    # As a decoder says them, time that goes back among it.
    assert filled([1, 2, 4, 3, NO_PTS], 1).tolist() == [1, 2, 4, 3, 4]


@given(
    pts=st.lists(st.just(NO_PTS) | st.integers(-(2**40), 2**40), min_size=1, max_size=30),
    step=st.floats(0.1, 1e5),
)
def test_filled_pts_keep_what_is_known(pts, step):
    whole = filled(pts, step).tolist()
    assert len(whole) == len(pts)
    assert all(now == given for now, given in zip(whole, pts, strict=True) if given != NO_PTS)


@pytest.mark.parametrize("name", WITHOUT_PTS)
@pytest.mark.parametrize("shard_frames", [10, 1024])
def test_without_pts_frames_are_those_that_a_decoder_delivers(tmp_path, name, shard_frames):
    path = make(tmp_path / name, 60, **WITHOUT_PTS[name])
    index = index_video(source_of(path), LIMITS)
    assert not index.exact_pts
    assert not index.damage
    assert index.frame_count == 60
    plain = [pts for pts, _ in plain_decode(path)]
    assert all(p in (None, now) for p, now in zip(plain, index.pts.tolist(), strict=True))
    assert index.keyframes.tolist() == [i for i, _ in enumerate(plain) if i in index.keyframes]
    frames, ends = owned_frames(path, Grid({"stride": 3}, 4, 4, shard_frames=shard_frames))
    assert [i for i, _ in frames] == list(range(0, 60, 3))
    assert [read_index(picture) for _, picture in frames] == [i for i, _ in frames]
    assert not any(end.missing or end.missing_reason for end in ends)


def test_a_program_stream_lasts_as_long_as_it_is_shown(tmp_path):
    path = make(tmp_path / "a.mpg", 60, **WITHOUT_PTS["program.mpg"])
    index = index_video(source_of(path), LIMITS)
    assert index.duration_s == pytest.approx(60 / 25, abs=0.05)
    assert len(sampled_frames(index, {"fps": 5.0})) == 12


def test_two_transport_streams_one_behind_the_other(tmp_path):
    parts = [make(tmp_path / f"{n}.ts", 30, gop=10, b_frames=2).read_bytes() for n in range(2)]
    both = tmp_path / "both.ts"
    both.write_bytes(b"".join(parts))
    plain = plain_decode(both)
    index = index_video(source_of(both), LIMITS)
    assert index.pts.tolist() == [pts for pts, _ in plain]
    assert index.keyframes.tolist() == [0, 10, 20, 30, 40, 50]
    frames, _ = owned_frames(both, Grid({"stride": 1}, 8, 8))
    for (_, picture), (_, expected) in zip(frames, plain, strict=True):
        np.testing.assert_array_equal(picture, expected)


def test_a_mirrored_picture_is_refused_rather_than_shown_wrongly(tmp_path):
    import av

    path = make(tmp_path / "a.mp4", 10, rotation=180)
    matrix = np.array([-65536, 0, 0, 0, -65536, 0], ">i4").tobytes()
    data = path.read_bytes()
    assert matrix in data
    flip = np.array([-65536, 0, 0, 0, 65536, 0], ">i4").tobytes()
    path.write_bytes(data.replace(matrix, flip))
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).side_data
    with pytest.raises(VideoError, match="mirrored"):
        index_video(source_of(path), LIMITS)


def test_a_corrupt_packet_of_a_video_without_pts_is_said(tmp_path):
    path = make(tmp_path / "a.mkv", 60, **WITHOUT_PTS["repeated.mkv"])
    broken = rewrite(path, tmp_path / "b.mkv", lambda number: number == 20)
    index = index_video(source_of(broken), LIMITS)
    assert index.frame_count == len(plain_or_broken(broken))
    assert "1 corrupt packets" in index.damage


def rewrite(path: Path, other: Path, emptied) -> Path:
    """The same packets, those whose number in storage order `emptied` says filled with zeros."""
    import av

    with av.open(str(path)) as given, av.open(str(other), "w") as output:
        stream = output.add_stream_from_template(given.streams.video[0])
        number = 0
        for packet in given.demux(video=0):
            if not packet.size:
                continue
            if emptied(number):
                empty = av.Packet(bytes(packet.size))
                empty.pts, empty.dts, empty.time_base = packet.pts, packet.dts, packet.time_base
                packet = empty
            packet.stream = stream
            output.mux(packet)
            number += 1
    return other


def plain_or_broken(path: Path) -> list[int | None]:
    """pts of the frames that come when packets that cannot be decoded are passed over."""
    import av

    pts = []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            try:
                pts += [frame.pts for frame in packet.decode()]
            except av.error.InvalidDataError:
                continue
    return pts


@pytest.mark.parametrize("name", ["whole.mp4", "whole.mkv", "whole.avi"])
def test_a_file_that_was_cut_says_so(tmp_path, name):
    settings = {"gop": 10} | ({"codec": "mpeg4"} if name.endswith("avi") else {})
    path = make(tmp_path / name, 60, **settings)
    if name.endswith("mp4"):
        path = with_its_index_first(path, tmp_path / "fast.mp4")
    assert not index_video(source_of(path), LIMITS).damage
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    index = index_video(source_of(path), LIMITS)
    lost = len(data) - len(data) // 2
    assert index.damage.startswith(f"the file ends {lost:,} bytes before its container does")
    assert 0 < index.frame_count < 60
    frames, _ = owned_frames(path, Grid({"stride": 1}, 8, 8))
    assert len(frames) >= index.frame_count - 1
    # Of the packet that was cut itself, some decoders make something all the same.
    assert [read_index(picture) for _, picture in frames[:-1]] == [i for i, _ in frames[:-1]]


def with_its_index_first(path: Path, other: Path) -> Path:
    """An mp4 that can be read without its end."""
    import av

    with av.open(str(path)) as given:
        options = {"movflags": "faststart"}
        with av.open(str(other), "w", options=options) as output:
            stream = output.add_stream_from_template(given.streams.video[0])
            for packet in given.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    output.mux(packet)
    return other


def test_a_title_in_another_encoding_is_no_reason_to_lose_a_video(tmp_path):
    import av

    path = make(tmp_path / "a.mkv", 10)
    titled = tmp_path / "titled.mkv"
    with av.open(str(path)) as given, av.open(str(titled), "w") as output:
        output.metadata["title"] = "Xpqrstu"
        stream = output.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    data = titled.read_bytes()
    assert b"Xpqrstu" in data
    titled.write_bytes(data.replace(b"Xpqrstu", b"\xe9\xe8\xe7\xe0\xff\xfe\xfa"))
    assert index_video(source_of(titled), LIMITS).frame_count == 10
