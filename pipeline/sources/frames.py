"""Frames of a video at their exact indices: what decoders deliver, held against the index."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import dropwhile
from typing import TYPE_CHECKING

import numpy as np

from pipeline.clip_pixels import PixelFormat
from pipeline.errors import VideoError
from pipeline.records import VideoIndex
from pipeline.sources.container import SAFE_OPTIONS, open_video
from pipeline.sources.files import VideoFile
from pipeline.sources.limits import above, check_picture
from pipeline.sources.pictures import AvPicture, CvPicture, Picture

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame

    from pipeline.config import DecodeConfig


@dataclass
class DecodeNotes:
    """What went wrong while decoding, without ending it."""

    corrupt_packets: int = 0
    """Packets that could not be decoded and were passed over."""
    unknown_pts: list[int] = field(default_factory=list)

    def reason(self) -> str:
        parts = []
        if self.corrupt_packets:
            parts.append(f"{self.corrupt_packets} corrupt packets")
        if self.unknown_pts:
            parts.append(f"{len(self.unknown_pts)} frames with pts that the index does not have")
        return "; ".join(parts) or "the decoder did not deliver them"


def frames_pyav(
    file: VideoFile,
    index: VideoIndex,
    first: int,
    stop: int,
    *,
    wanted: PixelFormat,
    config: DecodeConfig,
    notes: DecodeNotes,
) -> Iterator[tuple[int, Picture]]:
    """Frames `[first, stop)` in presentation order as (frame_index, picture).

    Decoding starts at the keyframe at or before `first`. Each frame takes the index whose pts it
    carries; a frame whose pts the index does not have is noted and left out; indices that no frame
    carries are simply not yielded, for the caller to account for. Without exact pts, frames are
    counted from the beginning instead, as the index did.

    Raises VideoError where nothing can be decoded at all, or a limit is met.
    """
    threads = config.threads
    for keyframe in _starting_points(index, first):
        # A new container for each try: after a failed seek a demuxer may stand anywhere.
        with open_video(file, "decode", config) as (container, stream):
            if stream.index != index.stream_index:
                raise VideoError("decode", "the file's streams are not those of the index")
            stream.codec_context.thread_count = threads
            stream.codec_context.thread_type = "AUTO" if threads > 1 else "SLICE"
            if keyframe:
                container.seek(int(index.pts[keyframe]), stream=stream)
            packets = container.demux(stream)
            packets = _from_keyframe(packets) if keyframe else packets
            frames = decoded(packets, "decode", config, notes)
            head = next(frames, None)
            overshot = head is None or (head.pts is not None and head.pts > index.pts[first])
            if keyframe and index.exact_pts and overshot:
                continue  # The seek landed behind the first frame: start from further back.
            if head is None:
                raise VideoError("decode", "no frame can be decoded")
            found = _chain(head, frames)
            by_pts = index.exact_pts
            placed = _by_pts(found, index, first, notes) if by_pts else _counted(found, stop)
            for frame_index, frame in placed:
                if frame_index >= stop:
                    return
                if frame_index >= first:
                    yield frame_index, AvPicture(frame, wanted)
                if frame_index == stop - 1:
                    return
            return


def _starting_points(index: VideoIndex, first: int) -> list[int]:
    """Keyframes to try in turn: the nearest, the one before it, the beginning of the file."""
    at = int(np.searchsorted(index.keyframes, first, side="right")) - 1
    if not index.exact_pts or at <= 0:
        return [0]
    return sorted({int(index.keyframes[at]), int(index.keyframes[at - 1]), 0}, reverse=True)


def _from_keyframe(packets: Iterator[Packet]) -> Iterator[Packet]:
    """A transport stream seeks to any packet, and what some decoders make of the first ones is
    grey: frames with the right pts and the wrong pixels."""
    return dropwhile(lambda packet: not packet.is_keyframe, packets)


def decoded(
    packets: Iterator[Packet], stage: str, limits: DecodeConfig, notes: DecodeNotes
) -> Iterator[VideoFrame]:
    """Frames of all packets; a packet that cannot be decoded is counted and passed over.

    Raises VideoError for a picture above max_pixels, and above max_corrupt such packets.
    """
    from av.error import FFmpegError, InvalidDataError

    while True:
        try:
            packet = next(packets, None)
        except InvalidDataError:
            notes.corrupt_packets += 1
            return
        if packet is None:
            return
        try:
            yield from packet.decode()
        except MemoryError:
            raise
        except FFmpegError:
            context = packet.stream.codec_context
            check_picture(stage, context.width, context.height, limits)
            notes.corrupt_packets += 1
            if notes.corrupt_packets > limits.max_corrupt:
                what = "more corrupt packets"
                raise above(stage, what, "max_corrupt", limits.max_corrupt) from None


def _chain(head: VideoFrame, rest: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    yield head
    yield from rest


def _counted(frames: Iterator[VideoFrame], stop: int) -> Iterator[tuple[int, VideoFrame]]:
    """Number frames as they come. Raises VideoError where `stop` of them do not come: then
    nobody knows which are missing, and none of the numbers can be trusted."""
    count = 0
    for count, frame in enumerate(frames, 1):
        yield count - 1, frame
    if count < stop:
        raise VideoError("decode", f"{count} frames came where {stop} came on indexing")


def _by_pts(
    frames: Iterator[VideoFrame], index: VideoIndex, first: int, notes: DecodeNotes
) -> Iterator[tuple[int, VideoFrame]]:
    """Give each frame the index of its pts; strictly ascending, what precedes `first` left out."""
    expected = first
    first_pts = int(index.pts[first])
    for frame in frames:
        pts = frame.pts
        if pts is not None and pts < first_pts:
            continue
        if pts is not None and expected < index.frame_count and index.pts[expected] == pts:
            found = expected
        else:
            found = int(np.searchsorted(index.pts, pts)) if pts is not None else index.frame_count
            if found >= index.frame_count or index.pts[found] != pts or found < expected:
                notes.unknown_pts.append(-1 if pts is None else pts)
                continue
        yield found, frame
        expected = found + 1


def frames_opencv(
    file: VideoFile,
    index: VideoIndex,
    first: int,
    stop: int,
    *,
    config: DecodeConfig,
    notes: DecodeNotes,
) -> Iterator[tuple[int, Picture]]:
    """The same through OpenCV, which counts frames and does not say their pts.

    Not exact: frames are numbered in the order in which OpenCV delivers them, from the beginning
    of the file, and one that it drops silently moves all that follow. Only for where that does
    not matter; a count that disagrees with the index at the end of the video is reported.
    """
    cv2 = import_cv2()
    path = file.path()
    # Read by OpenCV's FFmpeg at each opening; see sources.container for why.
    options = {**SAFE_OPTIONS, "threads": str(config.threads)}
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "|".join(map(";".join, options.items()))
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise VideoError("decode", "OpenCV cannot open the file")
        for frame_index in range(stop):
            if frame_index < first:
                if not capture.grab():
                    return
                continue
            read, bgr = capture.read()
            if not read:
                return
            check_picture("decode", bgr.shape[1], bgr.shape[0], config)
            yield frame_index, CvPicture(bgr)
        if stop == index.frame_count and capture.grab():
            notes.unknown_pts.append(-1)
    finally:
        capture.release()


def import_cv2():  # type: ignore[no-untyped-def]
    """OpenCV, or an error that says what its wheel needs of the system."""
    try:
        import cv2
    except ImportError as error:
        raise VideoError(
            "decode",
            f"OpenCV cannot be loaded ({error}); it needs the system's libGL and libglib2.0, "
            "or use decode.backend: pyav",
        ) from None
    return cv2
