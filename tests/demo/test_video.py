from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.demo.evaluate import displayed_frames
from pipeline.demo.pattern import read_index
from pipeline.demo.video import Rotation, variable_pts, write_video
from pipeline.demo.world import World

FRAMES = 24


def indices_in(path: Path) -> list[int | None]:
    return [read_index(frame) for frame in displayed_frames(path)]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("a.mp4", {}),
        ("b.mp4", {"gop": 20, "b_frames": 3}),
        ("c.mp4", {"codec": "mpeg4", "b_frames": 2}),
        ("d.webm", {"codec": "libvpx-vp9"}),
        ("e.mp4", {"codec": "libx265", "b_frames": 2}),
        ("f.mkv", {"fps": Fraction(30000, 1001), "b_frames": 2}),
        ("g.mp4", {"pixel_format": "yuv444p"}),
        ("h.mp4", {"options": {"crf": "40"}}),
    ],
)
def test_every_frame_reads_back_its_index(
    tmp_path: Path, name: str, settings: dict[str, object]
) -> None:
    path = write_video(tmp_path / name, World(1, frame_count=FRAMES), **settings)  # type: ignore[arg-type]
    assert indices_in(path) == list(range(FRAMES))
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_b_frames_and_keyframes_are_as_asked(tmp_path: Path) -> None:
    import av

    path = write_video(tmp_path / "a.mp4", World(1, frame_count=FRAMES), gop=8, b_frames=2)
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        assert [p.pts for p in packets] != sorted(p.pts for p in packets if p.pts is not None)
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    assert [i for i, f in enumerate(frames) if f.key_frame] == [0, 8, 16]


def test_a_variable_frame_rate_keeps_its_pts(tmp_path: Path) -> None:
    import av

    pts, time_base = variable_pts(FRAMES, seed=4)
    assert len(set(np.diff(pts))) > 10
    path = write_video(
        tmp_path / "a.mp4", World(1, frame_count=FRAMES), pts=pts, time_base=time_base, b_frames=2
    )
    with av.open(str(path)) as container:
        read = [f.pts * f.time_base for f in container.decode(video=0)]
    assert read == [tick * time_base for tick in pts]
    assert indices_in(path) == list(range(FRAMES))


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_rotated_video_is_displayed_upright(tmp_path: Path, rotation: Rotation) -> None:
    import av

    world = World(1, 128, 80, frame_count=6)
    path = write_video(tmp_path / "a.mp4", world, rotation=rotation)
    with av.open(str(path)) as container:
        first = next(container.decode(video=0))
        assert first.rotation % 360 == rotation
        assert (first.width, first.height) == ((128, 80) if rotation == 180 else (80, 128))
        assert read_index(first.to_ndarray(format="rgb24")) is None
    frames = list(displayed_frames(path))
    assert [read_index(frame) for frame in frames] == list(range(6))
    assert np.abs(frames[3].astype(int) - world.render(3)).mean() < 8


@pytest.mark.parametrize("size", [(64, 48), (640, 360)])
def test_other_sizes_read_back(tmp_path: Path, size: tuple[int, int]) -> None:
    path = write_video(tmp_path / "a.mp4", World(1, *size, frame_count=8))
    assert indices_in(path) == list(range(8))


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    paths = [
        write_video(tmp_path / name, World(1, frame_count=8), b_frames=2)
        for name in ("a.mp4", "b.mp4")
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_frames_may_be_any_pictures(tmp_path: Path) -> None:
    frames = (np.full((48, 64, 3), level, dtype=np.uint8) for level in (20, 200))
    path = write_video(tmp_path / "a.mp4", frames)
    assert [round(float(f.mean()), -1) for f in displayed_frames(path)] == [20, 200]


def test_nothing_is_left_of_a_failed_write(tmp_path: Path) -> None:
    def frames():  # type: ignore[no-untyped-def]
        yield np.zeros((48, 64, 3), dtype=np.uint8)
        raise RuntimeError("the renderer broke")

    with pytest.raises(RuntimeError, match="the renderer broke"):
        write_video(tmp_path / "a.mp4", frames())
    with pytest.raises(ValueError, match="at least one frame"):
        write_video(tmp_path / "a.mp4", [])
    assert list(tmp_path.iterdir()) == []


def test_pts_without_a_time_base_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="time base"):
        write_video(tmp_path / "a.mp4", World(1, frame_count=2), pts=[0, 1])
