from __future__ import annotations

import platform
import warnings
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.analyzers.frames import FrameBatch
from pipeline.analyzers.preprocess import to_rgb
from pipeline.clip_pixels import Pixels
from pipeline.sources.pictures import AvPicture
from tests.analyzers.tiny import rgb_pixels, scene
from tests.analyzers.yuv import as_rgb, random_yuv

VIDEOS = Path(__file__).resolve().parents[3] / "shared" / "videos"

# FFmpeg has its own code for each processor; x86's is the one that `colors` follows.
TOLERANCE = 0 if platform.machine() in ("x86_64", "AMD64") else 4


def levels_apart(pixels: Pixels, reference: np.ndarray) -> int:
    ours = to_rgb(pixels, "cpu").permute(0, 2, 3, 1).numpy()
    return int(np.abs(ours.astype(int) - reference).max())


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("bt709", [False, True])
@pytest.mark.parametrize(("width", "height"), [(64, 48), (70, 46), (2, 2), (322, 180)])
def test_yuv_as_ffmpeg_converts_it(width: int, height: int, bt709: bool, full_range: bool) -> None:
    yuv = random_yuv(2, width, height, bt709=bt709, full_range=full_range)
    assert levels_apart(yuv, as_rgb(yuv)) <= TOLERANCE


def test_chunks_join_up(monkeypatch: pytest.MonkeyPatch) -> None:
    yuv = random_yuv(5, 64, 48)
    whole = to_rgb(yuv, "cpu")
    monkeypatch.setattr("pipeline.analyzers.preprocess.CHUNK_PIXELS", 2 * 64 * 48)
    assert (to_rgb(yuv, "cpu") == whole).all()


@pytest.mark.parametrize("name", ["01_dog.mp4", "nasa_13013.mp4", "h265_video.mp4"])
def test_real_video(name: str) -> None:
    if not (VIDEOS / name).is_file():
        pytest.skip(f"{VIDEOS / name} is absent")
    with av.open(str(VIDEOS / name)) as container:
        for _, frame in zip(range(3), container.decode(video=0), strict=False):
            picture = AvPicture(frame, "yuv420p")
            at = picture.layout
            assert at.format == "yuv420p"
            data = np.empty(at.shape(1), dtype=np.uint8)
            picture.write(data[0])
            yuv = Pixels(data, "yuv420p", at.width, at.height, at.full_range, at.bt709)
            reference = frame.to_ndarray(format="rgb24")
            assert levels_apart(yuv, reference[None]) <= TOLERANCE


def test_rgb_is_viewed_and_read_only_is_no_trouble() -> None:
    frames = scene(2, 32, 24)
    frames.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rgb = to_rgb(rgb_pixels(frames), "cpu")
    assert rgb.data_ptr() == frames.ctypes.data
    assert (rgb.permute(0, 2, 3, 1).numpy() == frames).all()


def test_a_batch_converts_once() -> None:
    batch = FrameBatch(random_yuv(2, 64, 48))
    assert batch.rgb("cpu") is batch.rgb("cpu")
