"""Bytes of videos by ranges, and pictures of frames: of files that are what the tables say."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from pipeline.config import DecodeConfig
from pipeline.errors import VideoError
from pipeline.serve.refusal import Refusal
from pipeline.sources.files import opened

if TYPE_CHECKING:
    from pipeline.records import Source, VideoIndex

_BLOCK_BYTES = 2**18
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_decoding = threading.BoundedSemaphore(max(2, os.cpu_count() or 1))
"""A page asks for all its thumbnails at once."""

GONE = "the file of this video is gone, or has other bytes now"

_TYPES = {"mov": "video/mp4", "mp4": "video/mp4", "matroska": "video/webm", "webm": "video/webm"}
_PLAYED = {"h264", "hevc", "vp8", "vp9", "av1"}


def media_type(container: str) -> str:
    """The content type that a browser is told, by FFmpeg's name of the container."""
    return _TYPES.get(container.split(",")[0], "application/octet-stream")


def why_not_played(container: str, codec: str) -> str:
    """Why no browser plays this; empty where some do. Names are FFmpeg's."""
    short = container.split(",")[0]
    if short not in _TYPES or codec not in _PLAYED:
        return f"browsers do not play {codec} in {short}"
    return ""


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """[start, stop) of a file of `size` bytes that a Range header asks for.

    None for the whole: no header, one that is not understood, or several ranges, which a server
    may leave alone (RFC 9110, section 14.2). Raises Refusal, 416, where nothing lies in the range.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or found[1] == found[2] == "":
        return None
    if found[1] == "":
        start, stop = max(0, size - int(found[2])), size
    else:
        start = int(found[1])
        if found[2] and int(found[2]) < start:
            return None
        stop = min(size, int(found[2]) + 1) if found[2] else size
    if start >= stop:
        raise Refusal(416, f"the file has {size} bytes")
    return start, stop


def read_bytes(source: Source, start: int, stop: int) -> Iterator[bytes]:
    """Bytes [start, stop), of the version that the tables know and of no other.

    Raises Refusal at once where the file is not that.
    """
    with ExitStack() as stack:
        try:
            video = stack.enter_context(opened(source, "serve", DecodeConfig()))
            file = stack.enter_context(closing(video.bytes()))
            file.seek(start)
            first = file.read(min(_BLOCK_BYTES, stop - start))
        except (VideoError, OSError):
            raise Refusal(410, GONE) from None
        held = stack.pop_all()
    return _rest(held, file, first, stop - start)


def _rest(held: ExitStack, file: BinaryIO, first: bytes, length: int) -> Iterator[bytes]:
    with held:
        block = first
        while block:
            yield block
            length -= len(block)
            block = file.read(min(_BLOCK_BYTES, length)) if length else b""


def exact_png(source: Source, index: VideoIndex, frame: int) -> bytes:
    """The picture of a frame, without loss. Raises Refusal where it cannot be had."""
    return _encoded(".png", frame_of(source, index, frame), [_PNG_COMPRESSION, 1])


def thumbnail(source: Source, index: VideoIndex, frame: int, width: int) -> bytes:
    """The same as a JPEG of at most `width` columns."""
    import cv2

    rgb = frame_of(source, index, frame)
    if rgb.shape[1] > width:
        height = max(1, round(rgb.shape[0] * width / rgb.shape[1]))
        rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    return _encoded(".jpg", rgb, [_JPEG_QUALITY, 88])


_PNG_COMPRESSION, _JPEG_QUALITY = 16, 1  # cv2.IMWRITE_PNG_COMPRESSION, cv2.IMWRITE_JPEG_QUALITY


def frame_of(source: Source, index: VideoIndex, frame: int) -> np.ndarray:
    """RGB uint8 (height, width, 3), as displayed."""
    from pipeline.results.pixels import decode_frames

    if not 0 <= frame < index.frame_count:
        raise Refusal(404, f"no such frame: this video has {index.frame_count}, from 0")
    try:
        with _decoding:
            return next(rgb for _, rgb in decode_frames(source, index, [frame]))
    except VideoError:
        check(source)
        raise Refusal(422, "this frame cannot be decoded") from None


def check(source: Source) -> None:
    """Raise Refusal, 410, where the file is not what the tables know."""
    try:
        with opened(source, "serve", DecodeConfig()):
            pass
    except VideoError:
        raise Refusal(410, GONE) from None


def _encoded(ending: str, rgb: np.ndarray, options: list[int]) -> bytes:
    import cv2

    _, data = cv2.imencode(ending, rgb[:, :, ::-1], options)
    return bytes(data)
