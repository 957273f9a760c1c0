"""What is rendered whole or not at all, and what is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import av
import pytest

from pipeline.config_file import parse_config
from pipeline.demo.video import write_video
from pipeline.errors import RunAborted, UsageError, VideoError
from pipeline.ledger.reader import Ledger
from pipeline.results.render import render
from pipeline.runner import run
from tests.videos import make, numbered


def test_a_frame_that_cannot_be_decoded_is_left_out_and_said(tmp_path: Path) -> None:
    frames = list(numbered(40))
    write_video(tmp_path / "v.mkv", frames, gop=10, options={"bf": "0"})
    with av.open(str(tmp_path / "v.mkv")) as container:
        packets = [bytes(p) for p in container.demux(video=0) if p.size]
    data = bytearray((tmp_path / "v.mkv").read_bytes())
    at = data.index(packets[20])
    data[at : at + len(packets[20])] = b"\xff" * len(packets[20])
    (tmp_path / "v.mkv").write_bytes(bytes(data))
    run(parse_config({}, where="test"), [str(tmp_path / "v.mkv")], tmp_path / "out", engine="local")
    there = Ledger(tmp_path / "out").table("frames").to_pylist()
    failed = sum(row["status"] != "ok" for row in there)
    assert failed
    done = render(str(tmp_path / "out"), "v.mkv", str(tmp_path / "o.mp4"))
    assert done.frames == 40 - failed
    assert f"{failed} frames are left out: 1 corrupt packets" in done.notes[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"start": "soon"}, r"--start soon: give seconds \(90.5\)"),
        ({"end": "1:75"}, "--end 1:75: give seconds"),
        (
            {"start": "60f"},
            "--start 60f: behind the end of the video: the last frame is 59",
        ),
        ({"start": "9", "end": "12"}, "--start 9: behind the end"),
        ({"start": "20f", "end": "20f"}, "--start 20f --end 20f: no frame lies in there"),
        ({"end": "0"}, "--end 0: no frame lies in there"),
    ],
)
def test_ranges_that_are_none(made: Path, tmp_path: Path, options, said: str) -> None:
    target = tmp_path / "o.mp4"
    with pytest.raises(UsageError, match=said):
        render(str(made / "out"), f"{made}/videos/plain.mp4", str(target), **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("plain.mp4", "plain.mp4 fits 2 videos: .*again/plain.mp4, .*name one of them in full"),
        ("plian.mp4", "no video plian.mp4; did you mean .*plain.mp4"),
        ("000000000000", "no video 000000000000; it has"),
        ("", "no video "),
    ],
)
def test_videos_that_are_none_or_several(made: Path, tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        render(str(made / "out"), name, str(tmp_path / "o.mp4"))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("no/o.mp4", "there is no folder"),
        ("o.avi", "give a name that ends in .mp4"),
        ("s3://bucket/o.mp4", "is written to a local file"),
        ("folder.mp4", "is a folder"),
    ],
)
def test_targets_that_cannot_be(made: Path, tmp_path: Path, target: str, said: str) -> None:
    (tmp_path / "folder.mp4").mkdir()
    path = target if "://" in target else str(tmp_path / target)
    with pytest.raises(UsageError, match=said):
        render(str(made / "out"), f"{made}/videos/plain.mp4", path)


def test_the_video_itself_is_not_written_over(made: Path) -> None:
    path = f"{made}/videos/plain.mp4"
    before = Path(path).read_bytes()
    with pytest.raises(UsageError, match="is the video itself"):
        render(str(made / "out"), path, path)
    assert Path(path).read_bytes() == before


def test_a_file_with_other_bytes_is_refused_and_nothing_is_left(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "videos", tmp_path / "videos")
    video = tmp_path / "videos" / "uneven.mp4"
    output = tmp_path / "out"
    run(parse_config({}, where="test"), [str(video)], output, engine="local")
    (tmp_path / "o.mp4").write_bytes(b"as it was")
    os.utime(video)  # another stamp, the same bytes
    render(str(output), "uneven.mp4", str(tmp_path / "ok.mp4"), end="3f")
    make(video, 12)
    with pytest.raises(VideoError, match=r"uneven.mp4: the file has other bytes now"):
        render(str(output), "uneven.mp4", str(tmp_path / "o.mp4"))
    video.unlink()
    with pytest.raises(VideoError, match=r"uneven.mp4: No such file"):
        render(str(output), "uneven.mp4", str(tmp_path / "o.mp4"))
    assert (tmp_path / "o.mp4").read_bytes() == b"as it was"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.mp4", "ok.mp4", "out", "videos"]


def test_a_full_disk_is_said_and_leaves_nothing(made: Path, tmp_path: Path) -> None:
    import resource
    import signal

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(RunAborted, match=r"o.mp4: cannot be written: File too large"):
            render(str(made / "out"), f"{made}/videos/b-frames.mp4", str(tmp_path / "o.mp4"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert not list(tmp_path.iterdir())
