"""Files that are cut, damaged, or no videos: cases 1 to 4, 11 and 12."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.bad_inputs.checking import run_between
from tests.sources.decoding import plain_decode
from tests.sources.test_index import rewrite, with_its_index_first
from tests.videos import make, numbered


def cut(path: Path, size: int | None = None) -> int:
    """Leave the first half (or `size` bytes) of a file; the bytes that it has lost."""
    data = path.read_bytes()
    size = len(data) // 2 if size is None else size
    path.write_bytes(data[:size])
    return len(data) - size


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_01_truncated_mp4_without_moov(ray_here, folder, engine):
    path = make(folder / "cut.mp4", 60, gop=10)
    cut(path)
    outcome = run_between(folder, engine)
    outcome.failed(path, "index", "not a video, damaged beyond reading")
    assert (outcome.summary.videos_ok, outcome.summary.videos_failed) == (2, 1)
    assert outcome.summary.exit_code == 3


@pytest.mark.parametrize("name", ["cut.mkv", "cut.ts", "fast.mp4"])
def test_02_truncated_where_decoders_stop_without_an_error(folder, name):
    path = make(folder / name, 60, gop=10)
    if name == "fast.mp4":
        path = with_its_index_first(path, folder / "cut.mp4")
        (folder / name).unlink()
    plain = [pts for pts, _ in plain_decode(path)]
    lost = cut(path)
    outcome = run_between(folder)
    video = outcome.video(path)
    assert video["status"] == "partial"
    if path.suffix == ".ts":
        lost = -path.stat().st_size % 188  # All that a transport stream says is: whole packets.
    assert f"the file ends {lost:,} bytes before its container does" in video["reason"]
    assert 10 < video["frame_count"] < 60
    rows = outcome.has_frames(path, video["frame_count"])
    assert [row["pts"] for row in rows] == plain[: len(rows)]
    failure = outcome.rows("failures", path)[-1]
    assert (failure["stage"], failure["attempts"]) == ("index", 1)
    assert failure["video_id"] == video["video_id"]
    # Only mp4 says how many frames there were.
    last = 59 if path.suffix == ".mp4" else None
    assert (failure["first_frame"], failure["last_frame"]) == (len(rows), last)
    if path.suffix == ".mkv":
        assert "s of 2.00 s" in failure["reason"]
    assert outcome.summary.exit_code == 3


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"I am text, not a video.\n" * 200])
def test_03_no_video_at_all(folder, content):
    path = folder / "text.mp4"
    path.write_bytes(content)
    outcome = run_between(folder)
    outcome.failed(path, "index", "not a video")
    assert outcome.summary.exit_code == 3


def test_04_audio_only(folder):
    import av

    path = folder / "audio.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 44100
        for number in range(20):
            sound.pts = number * 1024
            output.mux(stream.encode(sound))
        output.mux(stream.encode(None))
    run_between(folder).failed(path, "index", "no video stream")


def test_04_cover_art_only(folder):
    path = folder / "cover.mp4"
    write_streams(path, [(64, 64, 1)], cover=0)
    run_between(folder).failed(path, "index", "no video stream")


def write_streams(path: Path, streams: list[tuple[int, int, int]], cover: int = -1) -> None:
    """A file of several video streams, each (width, height, frames); one of them cover art."""
    import av
    from av.stream import Disposition

    with av.open(str(path), "w") as output:
        opened = []
        for number, (width, height, _) in enumerate(streams):
            stream = output.add_stream("mjpeg" if number == cover else "libx264", rate=30)
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuvj420p" if number == cover else "yuv420p"
            if number == cover:
                stream.disposition = Disposition.attached_pic
            opened.append(stream)
        for stream, (width, height, count) in zip(opened, streams, strict=True):
            for image in numbered(count, width, height):
                output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            output.mux(stream.encode(None))


def test_11_corrupt_packets_mid_file(folder):
    whole = make(folder / "whole.mkv", 60, gop=10)
    path = rewrite(whole, folder / "corrupt.mkv", lambda number: number in (25, 26, 47))
    whole.unlink()
    expected = {pts for pts, picture in plain_frames(path)}
    outcome = run_between(folder)
    video = outcome.video(path)
    assert video["status"] == "partial"
    assert "corrupt packets" in video["reason"]
    rows = outcome.has_frames(path, 60)
    missing = [row["frame_index"] for row in rows if row["status"] == "failed"]
    assert missing
    assert {row["pts"] for row in rows if row["status"] == "ok"} == expected
    failures = outcome.rows("failures", path)
    ranges = [range(f["first_frame"], f["last_frame"] + 1) for f in failures]
    assert [frame for one in ranges for frame in one] == missing
    assert all((f["stage"], f["attempts"]) == ("decode", 1) for f in failures)
    assert all("corrupt packets" in f["reason"] for f in failures)
    assert outcome.summary.exit_code == 3


def plain_frames(path: Path) -> list[tuple[int, np.ndarray]]:
    """What comes when packets that cannot be decoded are passed over."""
    import av

    found = []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            try:
                found += [(f.pts, f.to_ndarray(format="rgb24")) for f in packet.decode()]
            except av.error.InvalidDataError:
                continue
    return found


def test_11_more_corrupt_packets_than_the_budget(folder):
    whole = make(folder / "whole.mkv", 60, gop=10)
    path = rewrite(whole, folder / "corrupt.mkv", lambda number: 20 <= number < 30)
    whole.unlink()
    outcome = run_between(folder, decode={"max_corrupt": 5})
    video = outcome.video(path)
    assert video["status"] == "failed"
    failures = outcome.rows("failures", path)
    assert {f["stage"] for f in failures} == {"decode"}
    assert {(f["first_frame"], f["last_frame"]) for f in failures} == {(0, 59)}
    for failure in failures:
        assert "above decode.max_corrupt = 5; raise decode.max_corrupt" in failure["reason"]
        assert "--retry-failed" in failure["reason"]
    assert not outcome.rows("frames", path)


@pytest.mark.parametrize("name", ["matroska.mp4", "transport.avi", "mp4.flv"])
def test_12_content_under_another_ending(folder, name):
    made = {"matroska": "a.mkv", "transport": "a.ts", "mp4": "a.mp4"}[name.split(".")[0]]
    path = make(folder / made, 30, gop=10).rename(folder / name)
    outcome = run_between(folder)
    rows = outcome.whole(path, 30)
    assert len(rows) == 30
    assert outcome.summary.exit_code == 0


def test_12_several_video_streams(folder):
    path = folder / "several.mp4"
    sizes = [(64, 48, 12), (320, 192, 9), (96, 96, 15)]
    write_streams(path, sizes)
    best = best_stream(path)
    outcome = run_between(folder)
    outcome.whole(path, sizes[best][2])
    video = outcome.video(path)
    assert (video["stream_index"], video["width"], video["height"]) == (best, *sizes[best][:2])


def test_12_a_video_beside_its_cover(folder):
    path = folder / "covered.mp4"
    write_streams(path, [(640, 480, 1), (128, 96, 9)], cover=0)
    outcome = run_between(folder)
    outcome.whole(path, 9)
    video = outcome.video(path)
    assert (video["codec"], video["width"], video["height"]) == ("h264", 128, 96)


def best_stream(path: Path) -> int:
    import av

    with av.open(str(path)) as container:
        return container.streams.best("video").index
