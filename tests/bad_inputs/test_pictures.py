"""Pictures that are turned, change their size, or are of odd formats: cases 8 to 10.

The reference for colours is FFmpeg's own conversion to RGB, reached through PyAV by itself.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.demo.pattern import read_index
from pipeline.demo.video import write_video
from pipeline.sources.plan import Grid
from tests.bad_inputs.checking import Outcome, run_between
from tests.bad_inputs.field_pictures import write_field_pictures
from tests.sources.decoding import owned_frames, plain_decode
from tests.videos import FORMS, HEIGHT, WIDTH, make, numbered


def grid_colours(rgb: np.ndarray) -> list[float]:
    """What the probe writes of a frame: the mean colours of its 16x9 grid."""
    from pipeline.analyzers.frames import FrameBatch
    from pipeline.analyzers.probe import ProbeEmbedder
    from pipeline.clip_pixels import Pixels

    pixels = Pixels(np.ascontiguousarray(rgb)[None], "rgb24", rgb.shape[1], rgb.shape[0])
    return ProbeEmbedder().analyze(FrameBatch(pixels))["embedding"][0].as_py()


def assert_colours(outcome: Outcome, path: Path) -> list[dict]:
    plain = plain_decode(path)
    rows = outcome.whole(path, len(plain))
    for row, embedding, (_, rgb) in zip(rows, outcome.rows("embeddings", path), plain, strict=True):
        assert (row["height"], row["width"]) == rgb.shape[:2]
        # The probe's values lie between 0 and 1: a level is 1 / 255.
        expected = pytest.approx(grid_colours(rgb), abs=2.5 / 255)
        assert embedding["embedding"] == expected, row["frame_index"]
    return rows


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_08_rotation(folder, rotation):
    path = make(folder / "turned.mp4", 20, **FORMS[f"rotated-{rotation}.mp4"])
    outcome = run_between(folder)
    assert_colours(outcome, path)
    video = outcome.video(path)
    assert (video["rotation"], video["width"], video["height"]) == (rotation, WIDTH, HEIGHT)


def test_09_another_size_mid_stream(folder):
    path = two_sizes(folder, (128, 96), (192, 128))
    outcome = run_between(folder, detector=SMALL_DETECTOR)
    rows = outcome.whole(path, 20)
    assert [(row["width"], row["height"]) for row in rows] == [(128, 96)] * 10 + [(192, 128)] * 10
    boxes = outcome.rows("detections", path)
    sizes = {row["frame_index"]: (row["width"], row["height"]) for row in rows}
    assert {box["frame_index"] >= 10 for box in boxes} == {False, True}
    for box in boxes:
        width, height = sizes[box["frame_index"]]
        assert 0 <= box["x1"] < box["x2"] <= width
        assert 0 <= box["y1"] < box["y2"] <= height
    # Some reach beyond what the first size would have let them.
    assert max(box["x2"] for box in boxes) > 128


SMALL_DETECTOR = {"backend": "transformers", "model": "builtin:detector", "threshold": 0.01}


def two_sizes(folder: Path, *sizes: tuple[int, int]) -> Path:
    """A transport stream whose one video stream changes its size after ten frames."""
    import av

    joined = folder / "sizes.ts"
    with av.open(str(joined), "w") as output:
        stream = None
        for number, size in enumerate(sizes):
            part = write_video(folder.parent / f"{number}.ts", numbered(10, *size), gop=5)
            with av.open(str(part)) as given:
                stream = stream or output.add_stream_from_template(given.streams.video[0])
                for packet in given.demux(video=0):
                    if packet.dts is not None:
                        packet.pts += number * 10 * 3000
                        packet.dts += number * 10 * 3000
                        packet.stream = stream
                        output.mux(packet)
    return joined


def write_as(path: Path, width: int, height: int, pixel_format: str, codec: str, **set_: object):
    """Ten numbered frames in a pixel format, as the encoder is handed them."""
    import av

    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.options = {"preset": "veryfast", "crf": "12"} if codec.startswith("libx") else {}
        stream.options = {**stream.options, **set_.pop("options", {})}
        for name, value in set_.items():
            setattr(stream.codec_context, name, value)
        for image in numbered(10, width, height):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            wanted = {"format": pixel_format}
            if set_.get("color_range") == 2:
                wanted["dst_color_range"] = 2
            output.mux(stream.encode(frame.reformat(**wanted)))
        output.mux(stream.encode(None))
    return path


ODD = {
    "ten-bit.mkv": (128, 96, "yuv420p10le", "libx265", {}),
    "ten-bit-422.mkv": (128, 96, "yuv422p10le", "libx264", {}),
    "444.mp4": (128, 96, "yuv444p", "libx264", {}),
    "422.mp4": (128, 96, "yuv422p", "libx264", {}),
    "grey.mkv": (128, 96, "gray", "libx264", {}),
    "odd-444.mkv": (127, 95, "yuv444p", "libx264", {}),
    "odd-420.mkv": (127, 95, "yuv420p", "ffv1", {}),
    "full-range.mp4": (128, 96, "yuv420p", "libx264", {"color_range": 2}),
    "full-range-jpeg.avi": (128, 96, "yuvj420p", "mjpeg", {"color_range": 2}),
    "bt709.mp4": (128, 96, "yuv420p", "libx264", {"colorspace": 1}),
    "interlaced.ts": (128, 96, "yuv420p", "libx264", {"options": {"x264-params": "tff=1"}}),
    "interlaced.mpg": (128, 96, "yuv420p", "mpeg2video", {"options": {"flags": "+ildct+ilme"}}),
    "with-alpha.mkv": (128, 96, "bgra", "ffv1", {}),
}


@pytest.mark.parametrize("name", ODD)
def test_10_odd_formats(folder, name):
    width, height, pixel_format, codec, settings = ODD[name]
    path = write_as(folder / name, width, height, pixel_format, codec, **settings)
    outcome = run_between(folder)
    rows = assert_colours(outcome, path)
    assert len(rows) == 10
    video = outcome.video(path)
    assert (video["width"], video["height"]) == (width, height)
    if codec != "mpeg2video":
        assert [read_index(rgb) for _, rgb in plain_decode(path)] == list(range(10))


@pytest.mark.parametrize("together", [True, False], ids=["a-packet", "two-packets"])
def test_10_field_pictures(folder, together):
    """Two fields make one frame, whether they come in one packet or in two."""
    path = write_field_pictures(folder / "fields.ts", 24, together=together)
    assert [read_index(rgb) for _, rgb in plain_decode(path)] == list(range(24))
    outcome = run_between(folder, clip={"length": 4})
    rows = assert_colours(outcome, path)
    assert [row["pts"] for row in rows] == [3600 * i for i in range(24)]


@pytest.mark.parametrize("shard_frames", [4, 1000])
def test_10_field_pictures_can_be_sought_for(folder, shard_frames):
    path = write_field_pictures(folder / "fields.ts", 24, together=False)
    frames, ends = owned_frames(path, Grid({"stride": 1}, 4, 4, shard_frames=shard_frames))
    assert [read_index(rgb) for _, rgb in frames] == [i for i, _ in frames] == list(range(24))
    assert not any(end.missing or end.missing_reason for end in ends)
    assert len(ends) == (6 if shard_frames == 4 else 1)
