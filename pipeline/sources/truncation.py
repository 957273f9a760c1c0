"""Files that end before their container does, by its own sizes: demuxers stop there in silence.

mov and matroska say how long their parts are, and so does AVI. A transport stream says nothing but
that it is made of whole packets: of a cut between two of them nobody can know.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from typing import BinaryIO

from pipeline.sources.files import VideoFile


def missing_bytes(video: VideoFile, container: str) -> int:
    """Bytes that a file lacks of what its container says; 0 where it is whole or nobody says.

    Args:
        container: FFmpeg's name of the format.
    """
    expected_end = _END.get(container)
    if expected_end is None:
        return 0
    with closing(video.bytes()) as file:
        size = file.seek(0, os.SEEK_END)
        return max(0, expected_end(file, size) - size)


def _mov_end(file: BinaryIO, size: int) -> int:
    """Where the last top-level box ends. Source: ISO/IEC 14496-12, 4.2."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length == 0 or not _is_box_name(header[4:8]):
            return size  # To the end of the file; or something that players pass over.
        if length < 8:
            return size
        at += length
    return at


def _is_box_name(name: bytes) -> bool:
    return all(32 <= byte < 127 or byte == 0xA9 for byte in name)


def _matroska_end(file: BinaryIO, size: int) -> int:
    """Where the segment ends. Source: RFC 8794, 4 to 6."""
    file.seek(0)
    head = file.read(4096)
    if head[:4] != bytes.fromhex("1a45dfa3"):
        return size
    at, length = _vint(head, 4)
    at += length or 0
    if head[at : at + 4] != bytes.fromhex("18538067"):
        return size
    body, length = _vint(head, at + 4)
    return size if length is None else body + length


def _vint(data: bytes, at: int) -> tuple[int, int | None]:
    """(position behind it, value) of an EBML size; None where it says "unknown"."""
    if at >= len(data) or data[at] == 0:
        return at, None
    width = 9 - data[at].bit_length()
    marker = 1 << (7 * width)
    value = int.from_bytes(data[at : at + width], "big") - marker
    return at + width, None if value == marker - 1 else value


def _avi_end(file: BinaryIO, size: int) -> int:
    """Where the last RIFF chunk ends; files above 1 GiB have several."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        header = file.read(8)
        length = int.from_bytes(header[4:], "little")
        if header[:4] != b"RIFF" or length == 0:
            return size
        at += 8 + length + length % 2
    return at


def _ts_end(file: BinaryIO, size: int) -> int:
    """Where the last packet ends. Source: ISO/IEC 13818-1, 2.4.3.2; with a time code before each
    (192 bytes) or a checksum behind (204) in recordings."""
    for length, sync in ((188, 0), (192, 4), (204, 0)):
        whole = size // length
        places = [k * length + sync for k in (0, 1, 2, whole - 2, whole - 1)]
        if whole >= 5 and all(_byte_at(file, place) == _SYNC_BYTE for place in places):
            return -(-size // length) * length
    return size


_SYNC_BYTE = 0x47


def _byte_at(file: BinaryIO, place: int) -> int:
    file.seek(place)
    return file.read(1)[0]


_END: dict[str, Callable[[BinaryIO, int], int]] = {
    "mov,mp4,m4a,3gp,3g2,mj2": _mov_end,
    "matroska,webm": _matroska_end,
    "avi": _avi_end,
    "mpegts": _ts_end,
}
