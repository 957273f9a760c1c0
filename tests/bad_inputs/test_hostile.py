"""Configurations, weights and files that are made to do harm: cases 24 and 25."""

from __future__ import annotations

import os
import resource
import socket
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.errors import ConfigError, FrameledgerError, UsageError
from pipeline.ledger.reader import Ledger
from pipeline.runner import run
from tests.bad_inputs.checking import HEALTHY, Outcome, config_of, run_between
from tests.bad_inputs.test_pictures import two_sizes
from tests.videos import make


class Runs:
    """Unpickles by running a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


HOSTILE = {
    "yaml-tag": "!!python/object/apply:os.system ['touch MARKER']",
    "yaml-tag-inside": "embedder: !!python/object/new:os.system ['touch MARKER']",
    "unknown-key": "sampling: {stride: 1}\nexec: 'touch MARKER'",
    "unknown-key-inside": "decode: {options: {protocol_whitelist: 'file,http'}}",
    "builtin-that-leads-out": "embedder: {backend: clip, model: 'builtin:../../../etc'}",
    "hub-name-that-leads-out": "embedder: {backend: clip, model: '../../../etc'}",
    "bomb": "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]",
    "detectron2-lazy": "detector: {backend: detectron2, config: LAZY}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_24_configurations_that_would_run_something(folder, name):
    marker, lazy = folder.parent / "marker", folder.parent / "lazy.py"
    lazy.write_text(f"import os\nos.system('touch {marker}')\n")
    path = make(folder / "a.mp4", 5)
    config = folder.parent / "config.yaml"
    config.write_text(HOSTILE[name].replace("MARKER", str(marker)).replace("LAZY", str(lazy)))
    with pytest.raises(ConfigError) as error:
        run(config, [str(path)], folder.parent / "out", engine="local")
    assert "\n" not in str(error.value)
    assert not marker.exists()
    assert not (folder.parent / "out").exists()


def test_24_a_pickle_for_weights(folder):
    import torch

    from tests.analyzers.tiny import save_clip

    marker, model = folder.parent / "marker", folder.parent / "model"
    save_clip(model)
    (model / "model.safetensors").unlink()
    torch.save({"weight": Runs(marker)}, model / "pytorch_model.bin")
    path = make(folder / "a.mp4", 5)
    config = config_of(embedder={"backend": "clip", "model": str(model)})
    with pytest.raises(ConfigError, match="safetensors"):
        run(config, [str(path)], folder.parent / "out", engine="local")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "..", "a/../../../x", "\0"])
def test_24_ids_that_lead_out(folder, name):
    """What a user or a table calls a video is looked up in columns, and makes no path."""
    path = make(folder / "a.mp4", 5)
    output = folder.parent / "out"
    run(config_of(), [str(path)], output, engine="local")
    before = everything_in(folder.parent)
    ledger = Ledger(output)
    with pytest.raises(FrameledgerError):
        ledger.frame(name, 0)
    for arguments in (["verify", str(output)], ["status", str(output)]):
        from pipeline.cli import app

        assert CliRunner().invoke(app, arguments).exit_code == 0
    with pytest.raises((UsageError, ValueError)):
        run(config_of(), [f"{folder}/{name}/nothing.mp4"], output, engine="local")
    assert everything_in(folder.parent) == before


def everything_in(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def test_24_a_name_that_leads_out_is_written_nowhere(folder):
    (folder / "sub").mkdir()
    make(folder / "a.mp4", 5)
    output = folder.parent / "deep" / "out"
    run(config_of(), [f"{folder}/sub/../../videos/a.mp4"], output, engine="local")
    assert [r["uri"] for r in Ledger(output).videos().to_pylist()] == [str(folder / "a.mp4")]
    assert {p.name for p in output.parent.iterdir()} == {"out"}


@pytest.fixture
def listener():
    """(its port, connections so far): whoever asks it for anything is counted."""
    server = socket.create_server(("127.0.0.1", 0))
    seen = []

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            seen.append(connection.recv(100))
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    port = server.getsockname()[1]
    yield port, seen
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


CONTAINERS = {
    "concat.mp4": "ffconcat version 1.0\nfile SECRET\n",
    "concat-http.mp4": "ffconcat version 1.0\nfile http://127.0.0.1:PORT/a.mp4\n",
    "playlist.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nSECRET\n#EXT-X-ENDLIST\n",
    "playlist-http.ts": "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:PORT/a.ts\n#EXT-X-ENDLIST\n",
    "dash.mp4": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011">'
    "<BaseURL>http://127.0.0.1:PORT/</BaseURL></MPD>",
    "session.mp4": "v=0\nc=IN IP4 127.0.0.1\nm=video PORT RTP/AVP 96\n",
    "picture%d.mp4": "P6 1 1 255 abc",
}


@pytest.mark.parametrize("backend", ["pyav", "opencv"])
@pytest.mark.parametrize("name", CONTAINERS)
def test_25_files_that_name_other_files(folder, listener, name, backend):
    port, seen = listener
    secret = make(folder.parent / "secret.mp4", 7)
    path = folder / name
    content = CONTAINERS[name].replace("SECRET", str(secret)).replace("PORT", str(port))
    path.write_text(content * (1 if "xml" in content else 3))
    outcome = run_between(folder, decode={"backend": backend})
    outcome.failed(path, "index", "not a video")
    assert not seen


def test_25_opencv_opens_no_such_file_either(folder, listener):
    """By itself, as if a file had changed after it was indexed."""
    import numpy as np

    from pipeline.config import DecodeConfig
    from pipeline.errors import VideoError
    from pipeline.sources.frames import DecodeNotes, frames_opencv
    from tests.sources.decoding import LIMITS, index_video, source_of

    port, seen = listener
    secret = make(folder / "secret.mp4", 7)
    index = index_video(source_of(secret), LIMITS)
    assert np.array_equal(index.keyframes[:1], [0])
    for name, content in CONTAINERS.items():
        path = folder / name
        path.write_text(content.replace("SECRET", str(secret)).replace("PORT", str(port)) * 3)
        found = frames_opencv(
            source_of(path), index, 0, 7, config=DecodeConfig(), notes=DecodeNotes()
        )
        with pytest.raises(VideoError, match="OpenCV cannot open"):
            list(found)
    assert not seen


@pytest.mark.parametrize(
    "name",
    ["http://127.0.0.1:PORT/a.mp4", "concat:A|A", "subfile,,start,0,end,9,,:A", "file:A", "pipe:0"],
)
def test_25_inputs_that_name_protocols(folder, listener, name):
    port, seen = listener
    path = make(folder / "a.mp4", 5)
    given = name.replace("PORT", str(port)).replace("A", str(path))
    with pytest.raises(UsageError, match=r"no such file or folder|matches no file"):
        run(config_of(), [given], folder.parent / "out", engine="local")
    assert not seen


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
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120
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
