"""Frames whose times are odd: cases 5 to 7. The reference is a plain decode by PyAV."""

from __future__ import annotations

import itertools
import struct
from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.demo.pattern import read_index
from pipeline.runner import run
from tests.bad_inputs.checking import Outcome, config_of, run_between
from tests.sources.decoding import plain_decode
from tests.videos import FORMS, WITHOUT_PTS, make, numbered, uneven


def assert_as_plain(outcome: Outcome, path: Path, frames: int) -> list[dict]:
    """Every frame at its place, with the pts and the picture that a plain decode gives."""
    from pipeline.analyzers.frames import FrameBatch
    from pipeline.analyzers.probe import ProbeEmbedder
    from pipeline.clip_pixels import Pixels

    plain = plain_decode(path)
    assert len(plain) == frames
    rows = outcome.whole(path, frames)
    for row, embedding, (pts, rgb) in zip(
        rows, outcome.rows("embeddings", path), plain, strict=True
    ):
        assert pts is None or row["pts"] == pts
        pixels = Pixels(rgb[None].copy(), "rgb24", rgb.shape[1], rgb.shape[0])
        expected = ProbeEmbedder().analyze(FrameBatch(pixels))["embedding"][0].as_py()
        assert embedding["embedding"] == pytest.approx(expected, abs=0.02)
    return rows


def test_05_variable_frame_rate(folder):
    settings = uneven(50)
    path = make(folder / "uneven.mp4", 50, **settings)
    rows = assert_as_plain(run_between(folder), path, 50)
    base = settings["time_base"]
    assert [Fraction(row["pts_s"]).limit_denominator(9000) for row in rows] == [
        pts * base for pts in settings["pts"]
    ]


def test_05_sampling_by_rate_takes_the_frames_nearest_in_time(folder):
    path = make(folder / "uneven.mp4", 50, **uneven(50))
    outcome = Outcome(
        run(config_of(sampling={"fps": 5}), [str(path)], folder.parent / "out", engine="local"),
        folder.parent / "out",
    )
    times = {i: float(pts * Fraction(1, 9000)) for i, pts in enumerate(uneven(50)["pts"])}
    ticks = range(int(times[49] * 5) + 1)
    nearest = {min(times, key=lambda i: abs(times[i] - tick / 5)) for tick in ticks}
    assert {row["frame_index"] for row in outcome.rows("frames", path)} == nearest


@pytest.mark.parametrize("name", ["b-frames.mp4", "one-keyframe.mp4", "transport.ts"])
def test_06_b_frames(folder, name):
    path = make(folder / name, 60, **FORMS[name])
    rows = assert_as_plain(run_between(folder), path, 60)
    assert [read_index(picture) for _, picture in plain_decode(path)] == list(range(60))
    assert all(a["pts"] < b["pts"] for a, b in itertools.pairwise(rows))


@pytest.mark.parametrize("name", ["early.ts", "early.mkv"])
def test_06_negative_first_pts(folder, name):
    import av

    path = folder / name
    with av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as output:
        stream = output.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.codec_context.max_b_frames = 2
        for number, image in enumerate(numbered(40)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number - 5, Fraction(1, 30)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    outcome = run_between(folder)
    rows = assert_as_plain(outcome, path, 40)
    assert rows[0]["pts"] < 0
    seconds = [row["pts_s"] for row in rows]
    assert seconds == pytest.approx([(i - 5) / 30 for i in range(40)], abs=0.001)


@pytest.mark.parametrize("name", WITHOUT_PTS)
def test_06_missing_and_equal_pts(folder, name):
    path = make(folder / name, 60, **WITHOUT_PTS[name])
    outcome = run_between(folder)
    assert_as_plain(outcome, path, 60)
    (index,) = outcome.rows("indexes", path)
    assert not index["exact_pts"]


def shift_edit(path: Path, change) -> None:
    """Change the media time (in the track's scale) at which an mp4's only edit begins."""
    data = bytearray(path.read_bytes())
    at = data.index(b"elst")
    version, count = data[at + 4], struct.unpack_from(">I", data, at + 8)[0]
    assert (version, count) == (0, 1)
    scale = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)[0]
    (media_time,) = struct.unpack_from(">i", data, at + 16)
    struct.pack_into(">i", data, at + 16, change(media_time, scale))
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(("skipped", "gop"), [(5, 60), (7, 20), (20, 20), (31, 20)])
def test_07_an_edit_list_that_begins_late(folder, skipped, gop):
    """What lies before it is decoded where it is referred to, and has no index."""
    path = make(folder / "edited.mp4", 60, gop=gop, b_frames=2)
    shift_edit(path, lambda media_time, scale: media_time + skipped * scale // 30)
    plain = plain_decode(path)
    assert len(plain) < 60
    outcome = run_between(folder)
    rows = assert_as_plain(outcome, path, len(plain))
    assert read_index(plain[0][1]) == 60 - len(plain)
    assert rows[0]["pts"] == plain[0][0]
