"""The index of a video: one pass over its packets, and one over its bytes for their sha256.

Policy for what counts as a frame: every packet of the chosen stream, except those that the
container marks "discard" (outside an mp4 edit list, a matroska codec delay): players and FFmpeg's
decoders do not show these, so they have no index. Frames are numbered in presentation order, by
pts, whatever order they are stored in.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import VideoError
from pipeline.records import Source, VideoIndex
from pipeline.sources.container import check_unchanged, open_for_packets

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_HASH_BLOCK_BYTES = 2**20


def index_video(source: Source, max_pixels: int) -> VideoIndex:
    """Read the packets of `source` and hash its bytes.

    Exactly one frame is decoded, the first that can be: the display rotation and the pixel
    format are known for certain only there.

    Args:
        max_pixels: refuse a picture above this many pixels.

    Raises VideoError("index", reason) for whatever is not a readable video.
    """
    from av.error import FFmpegError

    pts: list[int | None] = []
    dts: list[int | None] = []
    is_key: list[bool] = []
    first: VideoFrame | None = None
    with open_for_packets(source, "index") as (container, stream):
        context = stream.codec_context
        if context.width * context.height > max_pixels:
            raise VideoError(
                "index",
                f"a picture of {context.width}x{context.height} is above decode.max_pixels",
            )
        context.thread_count = 1
        for packet in container.demux(stream):
            if packet.size == 0 or packet.is_discard:
                continue
            pts.append(packet.pts)
            dts.append(packet.dts)
            is_key.append(packet.is_keyframe)
            if first is None:
                try:
                    first = next(iter(packet.decode()), None)
                except FFmpegError:
                    continue  # A damaged packet; the decoder is the one to report it.
        if first is None:
            # A stream of one packet, or one that reorders: the frame comes on flushing.
            try:
                first = next(iter(context.decode(None)), None)
            except FFmpegError:
                first = None
        time_base = stream.time_base
        if not pts or time_base is None:
            raise VideoError("index", "no frames: the video stream has no packets")
        if first is None:
            raise VideoError("index", "no frame can be decoded")
        ordered, order, exact = presentation_order(pts, dts)
        keyframes = np.flatnonzero(np.asarray(is_key)[order]).astype(np.int64)
        if not len(keyframes) or keyframes[0] != 0:
            keyframes = np.append([0], keyframes).astype(np.int64)
        rotation = quarter_turns(first.rotation) * 90
        width, height = first.width, first.height
        if rotation % 180:
            width, height = height, width
        index = VideoIndex(
            video_id=sha256_of(source.uri),
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
        )
    # Bytes that changed while they were read would give an id that belongs to neither version.
    check_unchanged(source, "index")
    return index


def presentation_order(
    pts: list[int | None], dts: list[int | None]
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Sort packets as they are shown.

    Missing pts are taken from dts, or where those are missing too from the place in the file; then,
    as where pts repeat, time cannot tell frames apart and the answer says that it is not exact.

    Returns:
        (int64 pts ascending, int64 positions in storage order, whether pts are exact).
    """
    exact = None not in pts
    if exact:
        values = np.asarray(pts, dtype=np.int64)
    elif None not in dts:
        values = np.asarray(dts, dtype=np.int64)
    else:
        values = np.arange(len(pts), dtype=np.int64)
    order = np.argsort(values, kind="stable")
    values = values[order]
    if len(values) > 1 and not bool(np.all(np.diff(values) > 0)):
        exact = False
    return values, order, exact


def quarter_turns(rotation: float) -> int:
    """Counter-clockwise degrees of a display matrix to quarter turns 0..3, to the nearest."""
    return round(rotation / 90) % 4


def sha256_of(path: str) -> str:
    """Hex sha256 of a file's bytes, read in blocks.

    A pass of its own: demuxing through a Python file object to hash the same read costs more than
    reading the pages again from the cache (sha256 runs at 1.8 GB/s here).
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _duration_s(pts: np.ndarray, time_base: float, stream_duration: int | None) -> float:
    """From the first frame's pts to the end of the last, which lasts as long as the others."""
    shown = int(pts[-1]) - int(pts[0])
    last = shown / (len(pts) - 1) if len(pts) > 1 else (stream_duration or 0)
    return (shown + last) * time_base
