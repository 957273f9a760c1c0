"""The sound of a part of a video, copied as it is beside pictures that are made anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING

from pipeline.sources.container import open_video

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.packet import Packet

    from pipeline.config import DecodeConfig
    from pipeline.results.mp4 import Mp4Writer
    from pipeline.sources.files import VideoFile

_AHEAD_S = 5.0
"""Sought before the begin: sound may lie in a file well ahead of the pictures of its time."""


class AudioCopy:
    """Packets of one stream, handed on as far as the pictures have come."""

    def __init__(
        self,
        packets: Iterator[Packet],
        writer: Mp4Writer,
        zero_s: Fraction,
        stop_s: float | None,
    ) -> None:
        self._packets = packets
        self._writer = writer
        self._zero_s = zero_s
        self._stop_s = stop_s
        self._next: Packet | None = next(packets, None)

    def up_to(self, seconds: float | None = None) -> None:
        """Write what comes before a time of the source; all there is where None."""
        while self._next is not None:
            packet = self._next
            at = _seconds(packet)
            if self._stop_s is not None and at >= self._stop_s:
                self._next = None
                return
            if seconds is not None and at >= seconds:
                return
            self._next = next(self._packets, None)
            assert packet.time_base is not None
            shift = round(self._zero_s / packet.time_base)
            if packet.pts is not None:
                packet.pts -= shift
            if packet.dts is not None:
                packet.dts -= shift
            self._writer.write_audio(packet)


@contextmanager
def copied_audio(
    file: VideoFile,
    config: DecodeConfig,
    writer: Mp4Writer,
    *,
    zero_s: Fraction,
    start_s: float | None,
    stop_s: float | None,
) -> Iterator[tuple[AudioCopy | None, str]]:
    """The sound of `[start_s, stop_s)`, None for the source's own bounds, and what became of it.

    Args:
        zero_s: the time of the source that becomes 0.

    The copy is None where there is no sound, or the container does not take it.
    """
    with open_video(file, "decode", config) as (container, _):
        stream: AudioStream | None = container.streams.best("audio")  # type: ignore[assignment]
        if stream is None:
            yield None, "the source has none"
            return
        codec = stream.codec_context.name
        if not writer.takes(stream):
            yield None, f"left out: {codec} has no place in an mp4"
            return
        writer.add_audio(stream)
        if start_s is not None and start_s > _AHEAD_S:
            container.seek(int((start_s - _AHEAD_S) * 1_000_000))
        packets = (packet for packet in container.demux(stream) if packet.dts is not None)
        if start_s is not None:
            packets = (packet for packet in packets if _seconds(packet) >= start_s)
        yield AudioCopy(packets, writer, zero_s, stop_s), f"copied ({codec})"


def _seconds(packet: Packet) -> float:
    ticks = packet.pts if packet.pts is not None else packet.dts
    return float((ticks or 0) * (packet.time_base or 0))
