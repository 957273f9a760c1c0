"""Writing an mp4 that plays everywhere, with frame times that are given and not made up.

H.264, yuv420p, BT.709, the index in front (faststart). Ticks of the video track are those of the
time base given, whatever the frame rate does. No B-frames: frames are stored as they are shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import RunAborted
from pipeline.results.target import whole

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import OutputContainer
    from av.packet import Packet

CRF = "18"
"""x264's quality: thin lines stay what they are."""
_EDIT_TICKS = 90_000
"""Ticks a second, at least, of what says how tracks lie in time."""
_BT709 = 1
_LIMITED_RANGE = 1
_SECONDS_BETWEEN_KEYFRAMES = 2


@contextmanager
def writing(
    target: Path, size: tuple[int, int], time_base: Fraction, rate: Fraction
) -> Iterator[Mp4Writer]:
    """An mp4 that appears under its name when the block ends well, replacing one that was there.

    Args:
        size: width and height of pictures. Odd ones become even, by a copy of the last column or
            row: the format halves colours in both directions.
        time_base: seconds per tick of the pts that frames are given.
        rate: frames a second on the average; players are told, nothing hangs on it.

    Raises RunAborted where writing fails.
    """
    import av
    from av.error import FFmpegError

    ticks = time_base.denominator
    options = {
        "movflags": "+faststart",
        "video_track_timescale": str(ticks),
        "movie_timescale": str(ticks * -(-_EDIT_TICKS // ticks)),
    }
    try:
        with (
            whole(target) as part,
            av.open(str(part), "w", format="mp4", options=options) as container,
        ):
            writer = Mp4Writer(container, size, time_base, rate)
            yield writer
            writer.finish()
    except FFmpegError as error:  # Those that the system is the cause of are OSErrors.
        width, height = size
        what = f"{width}x{height} pictures cannot be encoded"
        raise RunAborted(f"{target}: {what}: {error.strerror or error}") from None


class Mp4Writer:
    """An mp4 while it is being written. Streams are added before the first frame."""

    def __init__(
        self,
        container: OutputContainer,
        size: tuple[int, int],
        time_base: Fraction,
        rate: Fraction,
    ) -> None:
        self._container = container
        self._time_base = time_base
        stream: Any = container.add_stream("libx264", rate=rate.limit_denominator(100_000))
        stream.width, stream.height = (side + side % 2 for side in size)
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "veryfast", "crf": CRF}
        stream.time_base = stream.codec_context.time_base = time_base
        context = stream.codec_context
        context.max_b_frames = 0
        context.gop_size = min(250, max(1, round(rate * _SECONDS_BETWEEN_KEYFRAMES)))
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
        self._video = stream
        self._audio: AudioStream | None = None
        self._last_dts: int | None = None

    def set_aspect(self, aspect: Fraction) -> None:
        """Of a pixel, width to height."""
        self._video.codec_context.sample_aspect_ratio = aspect

    def takes(self, audio: AudioStream) -> bool:
        """Whether packets of this stream can be copied as they are."""
        return audio.codec_context.name in self._container.supported_codecs

    def add_audio(self, audio: AudioStream) -> None:
        self._audio = self._container.add_stream_from_template(audio)

    def write_audio(self, packet: Packet) -> None:
        """Copy a packet, its times as they are to be; one that goes back in time is left out."""
        if packet.dts is None or (self._last_dts is not None and packet.dts <= self._last_dts):
            return
        self._last_dts = packet.dts
        packet.stream = self._audio
        self._container.mux(packet)

    def write(self, rgb: np.ndarray, pts: int, duration: int) -> None:
        """A frame, uint8 (height, width, 3) of the size that was given, shown for so many ticks."""
        import av

        height, width = rgb.shape[:2]
        if height % 2 or width % 2:
            rgb = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
            format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
        )
        frame.pts, frame.duration = pts, duration
        frame.time_base = self._time_base
        self._container.mux(self._video.encode(frame))

    def finish(self) -> None:
        self._container.mux(self._video.encode(None))
