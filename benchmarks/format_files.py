"""Frames in the formats that people keep them in: how each is written, and every fourth read.

Everything heavy is imported in the functions, by a process that measures one of them.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

EVERY = 4

Frames = np.ndarray
"""uint8 RGB (N, height, width, 3)."""


@dataclass(frozen=True)
class Format:
    """One row of the table."""

    name: str
    file: str
    """Its file or folder."""
    write: Callable[[Frames, Path], None]
    read: Callable[[Path], Iterator[np.ndarray]]
    """Yields frames 0, 4, 8 ... each uint8 (height, width, 3)."""
    load: Callable[[], Any]
    """Imports what `read` needs: no part of its time."""
    lossless: bool = True


# -- one file a frame, or a video ---------------------------------------------------------


def _write_jpegs(frames: Frames, path: Path) -> None:
    from PIL import Image

    path.mkdir(exist_ok=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(path / f"{number:06d}.jpg", quality=95)


def _read_jpegs(path: Path) -> Iterator[np.ndarray]:
    from PIL import Image

    for name in sorted(path.iterdir())[::EVERY]:
        with Image.open(name) as picture:
            yield np.asarray(picture)


def _load_pil() -> Any:
    from PIL import Image, JpegImagePlugin

    return Image, JpegImagePlugin


def _write_mp4(frames: Frames, path: Path) -> None:
    from pipeline.demo.video import write_video

    write_video(path, frames, gop=250, b_frames=2)


def _read_opencv(path: Path) -> Iterator[np.ndarray]:
    import cv2

    capture = cv2.VideoCapture(str(path))
    number = 0
    while capture.grab():
        if number % EVERY == 0:
            yield capture.retrieve()[1][:, :, ::-1]
        number += 1
    capture.release()


def _load_cv2() -> Any:
    import cv2

    return cv2


def _read_exact(path: Path) -> Iterator[np.ndarray]:
    """As a run does: index from packets, then frames whose pts the index has."""
    from pipeline.clip_pixels import ClipPixels
    from pipeline.config import DecodeConfig
    from pipeline.records import Source
    from pipeline.sources.decode import BufferPool, decode_shard
    from pipeline.sources.discover import discover
    from pipeline.sources.index import index_video
    from pipeline.sources.plan import Grid, plan_video

    config, pool = DecodeConfig(), BufferPool()
    source = next(discover([str(path)]))
    assert isinstance(source, Source)
    grid = Grid(sampling={"stride": EVERY}, length=32, step=32)
    for task in plan_video(source, index_video(source, config), grid):
        for item in decode_shard(task, 1, config, "rgb24", pool):
            if isinstance(item, ClipPixels):
                for _, pixels in item.owned():
                    yield from pixels.data
                pool.give_back(item)


def _load_ours() -> Any:
    import av

    from pipeline.sources import decode, discover, index, plan

    return av, decode, discover, index, plan


# -- arrays -------------------------------------------------------------------------------


def _write_raw(frames: Frames, path: Path) -> None:
    frames.tofile(path)


def _read_raw(path: Path) -> Iterator[np.ndarray]:
    """Whose reader knows the shape."""
    count, side = 120 * 120 * 3, 120
    with open(path, "rb") as file:
        for number in range(0, path.stat().st_size // count, EVERY):
            file.seek(number * count)
            yield np.frombuffer(file.read(count), np.uint8).reshape(side, side, 3)


def _write_matlab(frames: Frames, path: Path) -> None:
    from scipy.io import savemat

    savemat(path, {"frames": frames}, format="5")


def _read_matlab(path: Path) -> Iterator[np.ndarray]:
    from scipy.io import loadmat

    yield from loadmat(path)["frames"][::EVERY]


def _load_scipy() -> Any:
    import scipy.io

    return scipy.io


def _write_pickle(frames: Frames, path: Path) -> None:
    with open(path, "wb") as file:
        pickle.dump(frames, file, protocol=pickle.HIGHEST_PROTOCOL)


def _read_pickle(path: Path) -> Iterator[np.ndarray]:
    with open(path, "rb") as file:
        yield from pickle.load(file)[::EVERY]


def _write_hdf5(frames: Frames, path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("frames", data=frames)


def _write_hdf5_chunked(frames: Frames, path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("frames", data=frames, chunks=(1, *frames.shape[1:]))


def _read_hdf5(path: Path) -> Iterator[np.ndarray]:
    import h5py

    with h5py.File(path) as file:
        dataset = file["frames"]
        for number in range(0, len(dataset), EVERY):
            yield dataset[number]


def _load_h5py() -> Any:
    import h5py

    return h5py


def _write_npy(frames: Frames, path: Path) -> None:
    np.save(path, frames)


def _read_npy(path: Path) -> Iterator[np.ndarray]:
    yield from np.load(path)[::EVERY]


def _read_mapped(path: Path) -> Iterator[np.ndarray]:
    yield from np.load(path, mmap_mode="r")[::EVERY]


def _write_cache(frames: Frames, path: Path) -> None:
    from pipeline.sources.frame_file import About, FrameFileWriter

    numbers = list(range(len(frames)))
    height, width = frames.shape[1:3]
    about = About({"video": "benchmark"}, 0, (width, height), numbers, numbers)
    with open(path, "wb") as file:
        writer = FrameFileWriter(file, frames.shape, about)
        writer.write(frames)
        writer.finish()


def _read_cache(path: Path) -> Iterator[np.ndarray]:
    """Frame by frame, each held against its checksum."""
    from pipeline.sources.frame_file import FrameFile

    kept = FrameFile(open(path, "rb"))  # noqa: SIM115 (taken over)
    for number in range(0, len(kept.about.frames), EVERY):
        yield kept.read(number, number + 1)[0]
    kept.close()


def _load_cache() -> Any:
    from pipeline.sources import frame_file

    return frame_file


def _load_nothing() -> None:
    """numpy is there."""


FORMATS = (
    Format("JPEG folder", "jpeg", _write_jpegs, _read_jpegs, _load_pil, lossless=False),
    Format("mp4 (H.264), OpenCV", "a.mp4", _write_mp4, _read_opencv, _load_cv2, lossless=False),
    Format("raw binary", "a.raw", _write_raw, _read_raw, _load_nothing),
    Format("MATLAB v5", "a.mat", _write_matlab, _read_matlab, _load_scipy),
    Format("pickle", "a.pickle", _write_pickle, _read_pickle, _load_nothing),
    Format("HDF5", "a.h5", _write_hdf5, _read_hdf5, _load_h5py),
    Format("HDF5, a chunk a frame", "b.h5", _write_hdf5_chunked, _read_hdf5, _load_h5py),
    Format("npy", "a.npy", _write_npy, _read_npy, _load_nothing),
    Format("npy, memory-mapped", "b.npy", _write_npy, _read_mapped, _load_nothing),
    Format("frameledger: frame cache", "c.npy", _write_cache, _read_cache, _load_cache),
    Format("frameledger: mp4, exact by index", "b.mp4", _write_mp4, _read_exact, _load_ours, False),
)
