"""One decoded frame into one slot of a clip buffer, in displayed orientation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pipeline.errors import VideoError
from pipeline.records import PixelFormat
from pipeline.sources.index import quarter_turns

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


def _rgb(frame: VideoFrame) -> np.ndarray:
    from av.error import FFmpegError

    try:
        return frame.to_ndarray(format="rgb24")
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
