"""What is rendered: the source's frames at the source's times, boxes where the rows say."""

from __future__ import annotations

import os
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.config import parse_config
from pipeline.demo.pattern import read_index
from pipeline.demo.video import write_video
from pipeline.errors import RunAborted, UsageError, VideoError
from pipeline.ledger.reader import Ledger
from pipeline.results.boxes import BoxChoice, Boxes
from pipeline.results.colors import class_color
from pipeline.results.draw import Style, scaled_box
from pipeline.results.render import render, strictly_ascending
from pipeline.runner import run
from tests.results.sound import packets_of, with_sound
from tests.videos import make, numbered, uneven

COUNT = 60
FORMS = {
    "plain.mp4": {"gop": 10},
    "b-frames.mp4": {"gop": 20, "b_frames": 3},
    "uneven.mp4": uneven(COUNT),
    "rotated.mp4": {"gop": 10, "rotation": 90},
    "odd.mp4": {"width": 129, "height": 97, "pixel_format": "yuv444p"},
    "ntsc.mkv": {"gop": 15, "b_frames": 2, "fps": Fraction(30000, 1001)},
    "transport.ts": {"gop": 15, "b_frames": 2},
    "vp9.webm": {"codec": "libvpx-vp9", "gop": 12},
    "counted.avi": {"codec": "mpeg4", "gop": 12, "fps": 25},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Videos in the forms that trip times, and a run over them that samples every eighth frame."""
    folder = tmp_path_factory.mktemp("render")
    for name, settings in FORMS.items():
        make(folder / "videos" / name, COUNT, **settings)
    (folder / "videos" / "again").mkdir()
    make(folder / "videos" / "again" / "plain.mp4", 12)
    config = parse_config({"sampling": {"stride": 8}}, where="test")
    run(config, [str(folder / "videos")], folder / "out", engine="local")
    return folder


def decoded(path: Path) -> tuple[Fraction, list[int], list[np.ndarray]]:
    """Time base, pts and RGB pictures of all frames, by PyAV alone."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [(f.pts, f.to_ndarray(format="rgb24")) for f in container.decode(stream)]
        return stream.time_base, [pts for pts, _ in frames], [rgb for _, rgb in frames]


@pytest.mark.parametrize("name", FORMS)
def test_every_frame_is_there_at_its_own_time(name: str, made: Path, tmp_path: Path) -> None:
    uri = f"{made}/videos/{name}"
    index = Ledger(made / "out").index(uri)
    done = render(str(made / "out"), uri, str(tmp_path / "out.mp4"))
    unit, pts, pictures = decoded(tmp_path / "out.mp4")
    expected = (index.pts - index.pts[0]) * index.time_base.numerator
    assert unit == Fraction(1, index.time_base.denominator)
    assert pts == expected.tolist()
    assert done.frames == len(pts) == COUNT
    assert [read_index(p[: index.height, : index.width]) for p in pictures] == list(range(COUNT))
    assert pictures[0].shape == (index.height + index.height % 2, index.width + index.width % 2, 3)
    assert done.seconds == pytest.approx(index.duration_s, rel=0.03)


@pytest.mark.parametrize("name", ["b-frames.mp4", "uneven.mp4", "transport.ts", "counted.avi"])
@pytest.mark.parametrize("keep", [False, True])
def test_a_part_has_the_times_that_it_has_in_the_source(
    name: str, keep: bool, made: Path, tmp_path: Path
) -> None:
    index = Ledger(made / "out").index(f"{made}/videos/{name}")
    path = tmp_path / "part.mp4"
    done = render(
        str(made / "out"), f"{made}/videos/{name}", str(path), start="17f", end="41f", keep_pts=keep
    )
    unit, pts, pictures = decoded(path)
    assert [read_index(picture) for picture in pictures] == list(range(17, 41))
    zero = 0 if keep else int(index.pts[17])
    assert [p * unit for p in pts] == [(int(p) - zero) * index.time_base for p in index.pts[17:41]]
    assert (done.first_frame, done.last_frame, done.frames) == (17, 40, 24)


def test_what_plays_it_is_told_what_it_is(made: Path, tmp_path: Path) -> None:
    render(str(made / "out"), f"{made}/videos/b-frames.mp4", str(tmp_path / "out.mp4"))
    with av.open(str(tmp_path / "out.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.colorspace, context.color_range) == (1, 1)
        assert context.has_b_frames == 0
        assert float(container.duration / av.time_base) == pytest.approx(2.0, abs=0.001)
    data = (tmp_path / "out.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")  # faststart


def test_colours_of_the_source_are_kept(tmp_path: Path) -> None:
    frame = np.zeros((96, 128, 3), np.uint8)
    frame[:, :64], frame[:, 64:] = (200, 60, 40), (30, 90, 220)
    write_video(tmp_path / "flat.mp4", [frame] * 8, options={"crf": "4"})
    run(parse_config({}, where="test"), [str(tmp_path)], tmp_path / "out", engine="local")
    render(str(tmp_path / "out"), "flat.mp4", str(tmp_path / "drawn.mp4"))
    seen = decoded(tmp_path / "drawn.mp4")[2][4]
    for x, color in ((20, (200, 60, 40)), (110, (30, 90, 220))):
        assert np.abs(seen[60, x].astype(int) - color).max() <= 6


@pytest.mark.parametrize("between", ["last", "none"])
def test_boxes_are_where_the_rows_say(boxed: Path, tmp_path: Path, between: str) -> None:
    """Colours read back from the decoded mp4, and the picture beside them as the source has it."""
    choice = BoxChoice(masks=False, between=between)
    path = tmp_path / "out.mp4"
    done = render(str(boxed / "out"), "demo.mp4", str(path), choice=choice, labels=False)
    ledger = Ledger(boxed / "out")
    video_id = ledger.index(f"{boxed}/demo.mp4").video_id
    _, _, pictures = decoded(path)
    _, _, plain = decoded(boxed / "demo.mp4")
    line = Style.of(256, 160).line
    looked_at = drawn = 0
    for at, (picture, source) in enumerate(zip(pictures, plain, strict=True)):
        rows = []
        if at % 3 == 0 or between == "last":
            rows = ledger.frame(video_id, at - at % 3).detections.to_pylist()
        drawn += len(rows)
        rim = np.zeros((160, 256), bool)
        for row in rows:
            left, top, right, bottom = scaled_box(row)
            rim[max(0, top) : bottom, max(0, left) : right] = True
        rim[:20, :110] = True  # the caption
        away = np.abs(picture.astype(int) - source).max(axis=2)
        assert away[~_grown(rim)].mean() < 6
        assert np.percentile(away[~_grown(rim)], 99) < 40
        alone = [row for row in rows if not _touches(row, rows)]
        for row in alone:
            left, top, right, bottom = scaled_box(row)
            middle = (top + bottom) // 2, (left + right) // 2
            color = np.array(class_color(row["class_id"]))
            places = {
                (middle[0], left),
                (middle[0], left + line - 1),
                (middle[0], right - 1),
                (middle[0], right - line),
                (top, middle[1]),
                (bottom - 1, middle[1]),
            }
            for y, x in places:
                if 20 <= y < 140 and 0 <= x < 256:
                    # Brightness is kept for each pixel; colours are shared by two by two.
                    assert abs(_luma(picture[y, x]) - _luma(color)) < 30, (at, row, y, x)
                    looked_at += 1
    assert done.boxes == drawn
    assert looked_at > 40


def _luma(rgb: np.ndarray) -> float:
    return float(np.asarray(rgb) @ (0.2126, 0.7152, 0.0722))


def _grown(mask: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)


def _touches(row: dict, rows: list[dict]) -> bool:
    """Whether another box comes near this one."""
    return any(
        other is not row
        and other["x1"] - 4 < row["x2"]
        and row["x1"] < other["x2"] + 4
        and other["y1"] - 4 < row["y2"]
        and row["y1"] < other["y2"] + 4
        for other in rows
    )


def test_classes_and_scores_choose(boxed: Path, tmp_path: Path) -> None:
    ledger = Ledger(boxed / "out")
    rows = ledger.table("detections").to_pylist()
    some = rows[0]["class_name"]
    least = sorted(row["score"] for row in rows)[len(rows) // 2]
    chosen = [row for row in rows if row["class_name"] == some and row["score"] >= least]
    video_id = rows[0]["video_id"]
    boxes = Boxes(ledger, video_id, BoxChoice((some,), least, masks=False, between="none"))
    shown = [row for at in range(30) for row in boxes.on(at)]
    key = ("frame_index", "class_name", "score")
    assert sorted([row[k] for k in key] for row in shown) == sorted(
        [row[k] for k in key] for row in chosen
    )
    done = render(
        str(boxed / "out"), video_id[:12], str(tmp_path / "o.mp4"), choice=BoxChoice(("dog", "ufo"))
    )
    assert done.boxes == 0
    (note,) = done.notes
    assert note.startswith("no boxes of dog, ufo; classes of this video: ")
    assert some in note


def test_boxes_can_be_asked_for_in_any_order(boxed: Path) -> None:
    ledger = Ledger(boxed / "out")
    video_id = ledger.index(f"{boxed}/demo.mp4").video_id
    forward, backward = Boxes(ledger, video_id), Boxes(ledger, video_id)
    rows = [forward.on(at) for at in range(30)]
    assert [backward.on(at) for at in reversed(range(30))] == rows[::-1]
    assert rows[2] == rows[0] != rows[3]
    assert all(row["frame_index"] == at - at % 3 for at in range(30) for row in rows[at])


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_sound_is_copied_as_it_is(ending: str, made: Path, tmp_path: Path) -> None:
    source = with_sound(tmp_path / f"sound.{ending}", made / "videos" / "b-frames.mp4")
    output = tmp_path / "out"
    run(
        parse_config({"sampling": {"stride": 30}}, where="test"),
        [str(source)],
        output,
        engine="local",
    )
    done = render(str(output), str(source), str(tmp_path / "all.mp4"))
    assert done.audio == "copied (aac)"
    before, after = packets_of(source), packets_of(tmp_path / "all.mp4")
    index = Ledger(output).index(str(source))
    zero = float(index.pts[0] * index.time_base)
    header = 7 if ending == "ts" else 0  # of ADTS, which an mp4 has not
    assert [data[header:] for _, data in before] == [data for _, data in after]
    assert [t - zero for t, _ in before] == pytest.approx([t for t, _ in after], abs=0.001)
    render(str(output), str(source), str(tmp_path / "part.mp4"), start="15f", end="45f")
    part = packets_of(tmp_path / "part.mp4")
    start = float(index.pts_seconds(index.pts[15:16])[0])
    wanted = [(t, d) for t, d in before if start <= t < start + 1]
    assert [d[header:] for _, d in wanted] == [d for _, d in part]
    assert [t - start for t, _ in wanted] == pytest.approx([t for t, _ in part], abs=0.001)


def test_sound_without_a_place_in_an_mp4_is_left_out(made: Path, tmp_path: Path) -> None:
    source = with_sound(tmp_path / "s.mov", made / "videos" / "plain.mp4", codec="pcm_mulaw")
    run(parse_config({}, where="test"), [str(source)], tmp_path / "out", engine="local")
    done = render(str(tmp_path / "out"), "s.mov", str(tmp_path / "o.mp4"))
    assert done.audio == "left out: pcm_mulaw has no place in an mp4"
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert len(container.streams.audio) == 0


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
    ("text", "first"),
    [
        ("0:00:01", 30),
        ("00:01.0", 30),
        ("1", 30),
        ("1.03", 31),
        ("1.033", 31),
        ("1.034", 32),
        ("31f", 31),
        (".5", 15),
        ("-1", 0),
    ],
)
def test_points_in_time(made: Path, tmp_path: Path, text: str, first: int) -> None:
    from pipeline.results.span import frame_range

    index = Ledger(made / "out").index(f"{made}/videos/plain.mp4")
    assert frame_range(index, text, None) == (first, COUNT)


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


def test_frames_that_share_a_time_are_a_tick_apart() -> None:
    pts = np.array([0, 0, 0, 5, 4, 9], np.int64)
    assert strictly_ascending(pts).tolist() == [0, 1, 2, 5, 6, 9]
    same = np.array([-3, 0, 10], np.int64)
    assert strictly_ascending(same).tolist() == same.tolist()
