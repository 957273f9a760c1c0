"""One decoded frame into one slot of a clip buffer, in displayed orientation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pipeline.clip_pixels import PixelFormat
from pipeline.errors import VideoError
from pipeline.sources.index import quarter_turns
from pipeline.sources.scaling import scaled_size

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

# FFmpeg's AVColorSpace and AVColorRange.
_BT709 = 1
_BT601_OR_UNSPECIFIED = (0, 2, 5, 6)
_FULL_RANGE = 2


@dataclass(frozen=True)
class Layout:
    """What frames must share to lie in one buffer."""

    format: PixelFormat
    width: int
    height: int
    full_range: bool = False
    bt709: bool = False
    scaled_from: tuple[int, int] | None = None

    def shape(self, count: int) -> tuple[int, ...]:
        if self.format == "rgb24":
            return (count, self.height, self.width, 3)
        return (count, self.height * 3 // 2, self.width)


class Picture(Protocol):
    """A decoded frame that knows its layout and writes itself."""

    layout: Layout

    def write(self, out: np.ndarray) -> None:
        """Fill `out` (uint8, one frame of `layout`)."""
        ...

    def scaled(self, scaler: Scaler) -> SmallPicture:
        """The same as rgb24, made smaller."""
        ...


class Scaler:
    """Makes pictures smaller, by the mean of the area that each pixel covers.

    Holds what FFmpeg computes for one size: for the frames of one shard, in one thread.
    """

    def __init__(self, side: int) -> None:
        """`side`: pixels of the shorter side (see `scaling.scaled_size`)."""
        from av.video.reformatter import VideoReformatter

        self.side = side
        self._reformatter = VideoReformatter()

    def of_frame(self, frame: VideoFrame) -> np.ndarray:
        """uint8 RGB (height, width, 3), not turned; in one pass from whatever the decoder gave."""
        width, height = scaled_size(frame.width, frame.height, self.side)
        with _said_plainly(frame):
            small = self._reformatter.reformat(
                frame, width, height, format="rgb24", interpolation="AREA"
            )
            return small.to_ndarray()

    def of_bgr(self, bgr: np.ndarray) -> np.ndarray:
        """The same of OpenCV's pixels."""
        import cv2

        height, width = bgr.shape[:2]
        size = scaled_size(width, height, self.side)
        if size != (width, height):
            bgr = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA)
        return bgr[:, :, ::-1]


class AvPicture:
    """A PyAV frame. yuv420p goes as it is where wanted and possible, all else as FFmpeg's RGB.

    As it is: planes are copied, half the bytes of RGB and no conversion. Odd sizes, turned
    pictures and anything but 8-bit 4:2:0 in BT.601 or BT.709 become rgb24.
    """

    def __init__(self, frame: VideoFrame, wanted: PixelFormat) -> None:
        self._frame = frame
        self._turns = quarter_turns(frame.rotation)
        width, height = frame.width, frame.height
        name = frame.format.name
        if (
            wanted == "yuv420p"
            and name in ("yuv420p", "yuvj420p")
            and not (self._turns or width % 2 or height % 2)
            and (frame.colorspace == _BT709 or frame.colorspace in _BT601_OR_UNSPECIFIED)
        ):
            full = name == "yuvj420p" or frame.color_range == _FULL_RANGE
            bt709 = frame.colorspace == _BT709
            self.layout = Layout("yuv420p", width, height, full_range=full, bt709=bt709)
        else:
            if self._turns % 2:
                width, height = height, width
            self.layout = Layout("rgb24", width, height)

    def write(self, out: np.ndarray) -> None:
        if self.layout.format == "yuv420p":
            _copy_planes(self._frame, out)
        else:
            rgb = _rgb(self._frame)
            # np.rot90 turns counter-clockwise, as the display matrix is read.
            out[...] = np.rot90(rgb, self._turns) if self._turns else rgb

    def scaled(self, scaler: Scaler) -> SmallPicture:
        width, height = self._frame.width, self._frame.height
        if self._turns % 2:
            width, height = height, width
        rgb = np.rot90(scaler.of_frame(self._frame), self._turns)
        return SmallPicture(rgb, (width, height))


def _rgb(frame: VideoFrame) -> np.ndarray:
    with _said_plainly(frame):
        return frame.to_ndarray(format="rgb24")


@contextmanager
def _said_plainly(frame: VideoFrame) -> Iterator[None]:
    """What FFmpeg cannot turn into RGB, as a VideoError."""
    from av.error import FFmpegError

    try:
        yield
    except MemoryError:
        raise
    except (FFmpegError, ValueError) as error:
        what = f"{frame.format.name} with colour space {int(frame.colorspace)}"
        raise VideoError("decode", f"FFmpeg cannot turn {what} into RGB: {error}") from None


def _copy_planes(frame: VideoFrame, out: np.ndarray) -> None:
    """Planes Y, U, V one after another without the padding that FFmpeg puts behind each row."""
    flat = out.reshape(-1)
    start = 0
    for plane in frame.planes:
        size = plane.width * plane.height
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        target = flat[start : start + size].reshape(plane.height, plane.width)
        target[...] = rows[: plane.height, : plane.width]
        start += size


class CvPicture:
    """A frame as OpenCV reads it: BGR, already turned."""

    def __init__(self, bgr: np.ndarray) -> None:
        self._bgr = bgr
        self.layout = Layout("rgb24", bgr.shape[1], bgr.shape[0])

    def write(self, out: np.ndarray) -> None:
        out[...] = self._bgr[:, :, ::-1]

    def scaled(self, scaler: Scaler) -> SmallPicture:
        return SmallPicture(scaler.of_bgr(self._bgr), (self.layout.width, self.layout.height))


class SmallPicture:
    """A picture that was made smaller, turned as it is displayed."""

    def __init__(self, rgb: np.ndarray, scaled_from: tuple[int, int]) -> None:
        self._rgb = rgb
        height, width = rgb.shape[:2]
        self.layout = Layout("rgb24", width, height, scaled_from=scaled_from)

    def write(self, out: np.ndarray) -> None:
        out[...] = self._rgb
