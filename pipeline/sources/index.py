"""The index of a video: one pass over its packets, and one over its bytes for their sha256.

Policy for what counts as a frame: every packet of the chosen stream, except those that the
container marks "discard" (outside an mp4 edit list, a matroska codec delay): players and FFmpeg's
decoders do not show these, so they have no index. Frames are numbered in presentation order, by
pts, whatever order they are stored in. Where pts do not tell, a frame is what a decoder delivers.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import VideoError
from pipeline.records import Source, VideoIndex
from pipeline.sources.container import HEADER_TELLS, open_for_packets, open_video
from pipeline.sources.files import VideoFile, opened
from pipeline.sources.limits import check_duration, check_frames, check_picture, memory_errors
from pipeline.sources.truncation import missing_bytes

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from numpy.typing import ArrayLike

    from pipeline.config import DecodeConfig

NO_PTS = -(2**63)
"""FFmpeg's AV_NOPTS_VALUE: no time."""
_WITHOUT_PTS = ("avi",)
"""Containers that store no pts: FFmpeg counts packets in storage order, and with B-frames a packet
then has the pts of another frame."""
_BY_FIELD = ("mpegts", "mpeg")
"""Containers in which a packet may be a field: two of an interlaced picture make one frame."""


def index_video(source: Source, limits: DecodeConfig) -> VideoIndex:
    """Read the packets of `source` and hash its bytes.

    Packets are decoded only until one frame is there: the display rotation and the pixel format
    are known for certain only then. Where packets do not say when they are shown (an AVI, pts
    that are missing or repeat) or may be fields, all of them are: the frames that come are the
    frames there are.

    Args:
        limits: what is above max_pixels, max_frames or max_duration is refused as soon as it shows,
            so that memory stays bounded (17 bytes a packet); nothing is believed of a header.

    Raises VideoError("index", reason) for whatever is not a readable video, and where the file
    changes meanwhile.
    """
    with opened(source, "index", limits) as file, memory_errors("index", limits):
        file.fetch()
        return _index(file, limits)


def _index(file: VideoFile, limits: DecodeConfig) -> VideoIndex:
    import av

    pts, dts, is_key = array("q"), array("q"), bytearray()
    first: VideoFrame | None = None
    with open_for_packets(file, "index", limits) as (container, stream):
        context = stream.codec_context
        context.thread_count = 1
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            if first is None:
                # Also what is not shown: the first frame that is may refer to it.
                first = _first_frame(context, packet, limits)
            if packet.is_discard:
                continue
            pts.append(NO_PTS if packet.pts is None else packet.pts)
            if packet.dts is not None:
                dts.append(packet.dts)
            is_key.append(packet.is_keyframe)
            check_frames("index", len(pts), limits)
        if first is None:
            # A stream of one packet, or one that reorders: the frame comes on flushing.
            first = _first_frame(context, None, limits)
        time_base = stream.time_base
        if not pts or time_base is None:
            raise VideoError("index", "no frames: the video stream has no packets")
        if first is None:
            raise _nothing(limits)
        if is_mirrored(first):
            raise VideoError("index", "the picture is to be shown mirrored, which is not supported")
        exact = container.format.name not in _WITHOUT_PTS and tell_apart(pts, dts)
        fields = exact and container.format.name in _BY_FIELD and first.interlaced_frame
        if exact and not fields:
            ordered, keyframes = presentation_order(pts, is_key)
            damage = ""
        else:
            rate = stream.average_rate
            step = float(1 / (rate * time_base)) if rate else 1.0
            ordered, keyframes, damage = _by_decoding(file, step, limits)
            exact = fields and bool(np.all(ordered[1:] > ordered[:-1]))
            exact = exact and bool(np.isin(ordered, pts).all())
        span = (int(ordered.max()) - int(ordered.min())) * time_base
        check_duration("index", float(span), limits)
        rotation = quarter_turns(first.rotation) * 90
        width, height = first.width, first.height
        if rotation % 180:
            width, height = height, width
        lost = missing_bytes(file, container.format.name)
        if lost:
            damage = f"the file ends {lost:,} bytes before its container does"
            if container.format.name in HEADER_TELLS and container.duration:
                promised = container.duration / av.time_base
                damage += f", at {float(span):.2f} s of {promised:.2f} s"
        return VideoIndex(
            video_id=file.sha256(),
            pts=ordered,
            keyframes=keyframes,
            time_base=time_base,
            stream_index=stream.index,
            container=container.format.name,
            codec=context.name,
            pixel_format=first.format.name,
            width=width,
            height=height,
            rotation=rotation,
            duration_s=_duration_s(ordered, float(time_base), stream.duration),
            exact_pts=exact,
            expected_frames=stream.frames,
            damage=damage,
        )


def _first_frame(
    context: VideoCodecContext, packet: Packet | None, limits: DecodeConfig
) -> VideoFrame | None:
    """A frame out of a packet, or out of what the decoder still holds (None)."""
    from av.error import FFmpegError

    try:
        return next(iter(context.decode(packet)), None)
    except MemoryError:
        raise
    except FFmpegError:
        check_picture("index", context.width, context.height, limits)
        return None  # A damaged packet; the decoder is the one to report it.


def _nothing(limits: DecodeConfig) -> VideoError:
    # Of a picture that it refuses for its size, a decoder may say nothing but that it is invalid.
    large = f"a picture above decode.max_pixels = {limits.max_pixels}"
    return VideoError("index", f"no frame can be decoded: damaged, or {large}")


def tell_apart(pts: ArrayLike, dts: ArrayLike) -> bool:
    """Whether pts say which frame is which, and in what order they are shown.

    Not where one is missing or there twice, nor where time goes back: in two transport streams
    one behind the other, frames of both have a place at the beginning.

    Args:
        pts, dts: int64 in storage order, pts that are missing as NO_PTS.
    """
    shown, stored = np.sort(np.asarray(pts, np.int64)), np.asarray(dts, np.int64)
    if len(shown) and shown[0] == NO_PTS:
        return False
    return bool(np.all(shown[1:] != shown[:-1]) and np.all(stored[1:] >= stored[:-1]))


def presentation_order(pts: ArrayLike, is_key: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """(int64 pts ascending, int64 places of the keyframes among them; the first frame is one)."""
    values = np.asarray(pts, dtype=np.int64)
    order = np.argsort(values, kind="stable")
    keyframes = np.flatnonzero(np.asarray(is_key, dtype=bool)[order]).astype(np.int64)
    if not len(keyframes) or keyframes[0] != 0:
        keyframes = np.append([0], keyframes).astype(np.int64)
    return values[order], keyframes


def _by_decoding(
    file: VideoFile, step: float, limits: DecodeConfig
) -> tuple[np.ndarray, np.ndarray, str]:
    """(pts of all frames that the decoder delivers, keyframes, what it could not decode)."""
    from pipeline.sources.frames import DecodeNotes, decoded

    notes = DecodeNotes()
    pts, is_key = array("q"), bytearray()
    with open_video(file, "index", limits) as (container, stream):
        stream.codec_context.thread_count = 1
        for frame in decoded(container.demux(stream), "index", limits, notes):
            pts.append(NO_PTS if frame.pts is None else frame.pts)
            is_key.append(frame.key_frame or len(pts) == 1)
            check_frames("index", len(pts), limits)
    if not pts:
        raise _nothing(limits)
    keyframes = np.flatnonzero(np.asarray(is_key)).astype(np.int64)
    damage = ""
    if notes.corrupt_packets:
        damage = (
            f"{notes.reason()}; without pts to tell them apart, frames are numbered as they come"
        )
    return filled(pts, step), keyframes, damage


def filled(pts: ArrayLike, step: float) -> np.ndarray:
    """int64 (n,): those pts, with the missing ones (NO_PTS) put evenly between their neighbours.

    Args:
        pts: in the order in which frames are shown, as the decoder says; not always ascending.
        step: pts between two frames, for those before the first and behind the last that is
            known.
    """
    values = np.asarray(pts, dtype=np.int64)
    is_known = values != NO_PTS
    places, known = np.flatnonzero(is_known).astype(np.float64), values[is_known].astype(np.float64)
    every = np.arange(len(values), dtype=np.float64)
    if not len(known):
        return np.round(every * step).astype(np.int64)
    between = np.interp(every, places, known)
    before, behind = places[0] - every, every - places[-1]
    between -= np.maximum(before, 0) * step
    between += np.maximum(behind, 0) * step
    whole = np.round(between).astype(np.int64)
    whole[is_known] = values[is_known]  # A float holds 53 bits of them.
    return whole


def quarter_turns(rotation: float) -> int:
    """Counter-clockwise degrees of a display matrix to quarter turns 0..3, to the nearest."""
    return round(rotation / 90) % 4


def is_mirrored(frame: VideoFrame) -> bool:
    """Whether a display matrix turns left into right or top into bottom, besides rotating."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False
    # Three rows of three, row by row; the first two by two turn the picture.
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32).tolist()
    return bool(a * d - b * c < 0)


def _duration_s(pts: np.ndarray, time_base: float, stream_duration: int | None) -> float:
    """From the first frame's pts to the end of the last, which lasts as long as the others."""
    shown = int(pts.max()) - int(pts[0])
    last = shown / (len(pts) - 1) if len(pts) > 1 else (stream_duration or 0)
    return (shown + last) * time_base
