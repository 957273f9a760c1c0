"""Files that would cost more than a video may: case 25."""

from __future__ import annotations

import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from pipeline.ledger.reader import Ledger
from pipeline.runner import run
from tests.bad_inputs.checking import HEALTHY, Outcome, config_of, run_between
from tests.bad_inputs.test_pictures import two_sizes
from tests.videos import make


def assert_limit_can_be_raised(outcome: Outcome, folder: Path, path: Path, key: str) -> None:
    """The reason says what to do; done, the video is whole."""
    reasons = {row["reason"] for row in outcome.rows("failures", path)}
    assert len(reasons) == 1
    assert f"raise decode.{key} and run with --retry-failed" in reasons.pop()
    assert outcome.summary.exit_code == 3
    still = run(config_of(), [str(folder)], outcome.output, engine="local")
    assert (still.did_nothing, still.videos_failed_before) == (True, 1)
    again = run(config_of(), [str(folder)], outcome.output, engine="local", retry_failed=True)
    assert (again.videos_ok, again.exit_code) == (1, 0)
    outcome.has_frames(path, again.frames)


@pytest.mark.parametrize("name", ["long.mp4", "long.avi"])
def test_25_too_many_frames(folder, name):
    path = make(folder / name, 60, gop=10, codec="mpeg4")
    outcome = run_between(folder, decode={"max_frames": 59})
    outcome.failed(path, "index", "more frames: above decode.max_frames = 59")
    assert_limit_can_be_raised(outcome, folder, path, "max_frames")
    assert len(outcome.rows("frames", path)) == 60


@pytest.mark.parametrize("name", ["long.mkv", "long.avi"])
def test_25_too_long(folder, name):
    path = make(folder / name, 30, gop=10, codec="mpeg4", fps=10)
    outcome = run_between(folder, decode={"max_duration": 2.5})
    outcome.failed(path, "index", "pts that span 3 s: above decode.max_duration = 2.5")
    assert_limit_can_be_raised(outcome, folder, path, "max_duration")


def test_25_a_large_picture(folder):
    path = make(folder / "large.mp4", 5, width=256, height=192)
    outcome = run_between(folder, decode={"max_pixels": 256 * 192 - 1})
    outcome.failed(path, "index", "a picture of 256x192: above decode.max_pixels = 49151")
    assert_limit_can_be_raised(outcome, folder, path, "max_pixels")


@pytest.mark.parametrize("backend", ["pyav", "opencv"])
def test_25_a_large_picture_in_the_middle(folder, backend):
    path = two_sizes(folder, (128, 96), (640, 480))
    decode = {"backend": backend, "max_pixels": 200_000}
    outcome = run_between(folder, decode=decode)
    assert outcome.video(path)["status"] == "failed" or backend == "opencv"
    reasons = {row["reason"] for row in outcome.rows("failures", path)}
    if backend == "pyav":
        assert reasons == {
            "a picture of 640x480: above decode.max_pixels = 200000; "
            "raise decode.max_pixels and run with --retry-failed"
        }
    sizes = {(row["width"], row["height"]) for row in outcome.rows("frames", path)}
    assert sizes <= {(128, 96)}


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_25_out_of_memory_fails_the_video_and_not_the_process(ray_here, folder, engine):
    """A clip of 209 MiB where there are 64: what else the process gives back meanwhile (a thread's
    arena is 64) does not make it fit."""
    path = make(folder / "large.mp4", 70, width=1920, height=1088, codec="mpeg4")
    clip = {"length": 70}
    before = resource.getrlimit(resource.RLIMIT_AS)
    outcome = run_between(folder, engine, decode={"max_memory": "64MiB"}, clip=clip)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert outcome.summary.retries == 0
    reason = "out of memory with decode.max_memory = 67108864; raise decode.max_memory and run"
    assert reason in outcome.video(path)["reason"]
    assert outcome.video(path)["status"] == "failed"
    for failure in outcome.rows("failures", path):
        assert (failure["stage"], failure["attempts"]) == ("decode", 1)
        assert (failure["first_frame"], failure["last_frame"]) == (0, 69)
    config = config_of(clip=clip)
    again = run(config, [str(folder)], outcome.output, engine="local", retry_failed=True)
    assert (again.videos_ok, again.frames) == (1, 70)


def png_bomb(path: Path, side: int, said: int) -> None:
    """A picture of `side` squared in a few hundred bytes, in a file that says it is smaller."""
    import av

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    picture = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100)))
    with av.open(str(path), "w") as output:
        stream = output.add_stream("png", rate=30)
        stream.width = stream.height = 128
        stream.pix_fmt = "rgb24"
        for number in range(3):
            packet = av.Packet(picture + chunk(b"IEND", b""))
            packet.pts = packet.dts = number * 33
            packet.stream = stream
            packet.is_keyframe = True
            output.mux(packet)
    data = bytearray(path.read_bytes())
    struct.pack_into(">HH", data, data.index(b"png \0") + 28, said, said)
    path.write_bytes(bytes(data))


def sample_bomb(path: Path, samples: int) -> None:
    """An mp4 whose index says that its few kilobytes are so many samples of one byte."""
    make(path, 30, gop=5)
    data = bytearray(path.read_bytes())
    at = data.index(b"stsz")
    struct.pack_into(">II", data, at + 8, 1, samples)
    at = data.index(b"stsc")
    struct.pack_into(">I", data, at + 16, samples)
    at = data.index(b"stts")
    struct.pack_into(">I", data, at + 12, samples)
    path.write_bytes(bytes(data))


BOMBS = {
    "picture": lambda path: png_bomb(path.with_suffix(".mov"), 30_000, 30_000),
    "picture-that-lies": lambda path: png_bomb(path.with_suffix(".mov"), 30_000, 128),
    "samples": lambda path: sample_bomb(path.with_suffix(".mp4"), 170_000_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_25_a_tiny_file_that_unpacks_to_gigabytes(folder, name):
    """In a process of its own, whose peak memory tells."""
    BOMBS[name](folder / "bomb.any")
    (path,) = folder.iterdir()
    assert path.stat().st_size < 10_000
    for healthy, frames in HEALTHY.items():
        make(folder / healthy, frames)
    output = folder.parent / "out"
    code = (
        "import re, sys\n"
        "from pipeline.cli import app\n"
        "from typer.testing import CliRunner\n"
        "result = CliRunner().invoke(app, sys.argv[1:])\n"
        "peak = re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1]\n"
        "print(result.exit_code, peak)\n"
    )
    arguments = ["run", "configs/probe.yaml", str(folder), "-o", str(output), "--engine", "local"]
    arguments += ["--set", "decode.max_memory=512MiB"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=600
    )
    exit_code, peak_kib = map(int, done.stdout.split())
    assert exit_code == 3
    assert peak_kib < 700 * 1024
    rows = {row["uri"]: row for row in Ledger(output).videos().to_pylist()}
    assert rows[str(path)]["status"] == "failed"
    reason = rows[str(path)]["reason"]
    expected = {
        "picture": "no frame can be decoded: damaged, or a picture above decode.max_pixels",
        "picture-that-lies": "no frame can be decoded: damaged, or a picture above",
        # FFmpeg passes over the memory that it did not get for its list of them.
        "samples": "no frames: the video stream has no packets",
    }
    assert expected[name] in reason
    assert all(rows[str(folder / healthy)]["status"] == "ok" for healthy in HEALTHY)


@pytest.mark.parametrize("name", ["eternal.mp4", "eternal.mkv"])
def test_25_a_huge_duration_in_the_header_harms_nobody(folder, name):
    import av

    path = make(folder / name, 30, gop=10)
    data = bytearray(path.read_bytes())
    if name.endswith("mp4"):
        for box, offset in ((b"mvhd", 20), (b"mdhd", 20), (b"tkhd", 24), (b"elst", 12)):
            struct.pack_into(">I", data, data.index(box) + offset, 2**32 - 2)
    else:
        struct.pack_into(">d", data, data.index(b"\x44\x89\x88") + 3, 1e14)
    path.write_bytes(bytes(data))
    if name.endswith("mkv"):
        with av.open(str(path)) as container:
            assert container.duration / av.time_base > 1e10
    outcome = run_between(folder)
    assert outcome.video(path)["duration_s"] == pytest.approx(1.0, abs=0.01)
    outcome.whole(path, 30)
