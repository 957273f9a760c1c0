"""H.264 in field pictures (PAFF), as broadcasts have it and no encoder at hand makes it.

Every macroblock is I_PCM, so that the picture is in the file as it is. Source of the syntax: ITU-T
H.264, 7.3.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from tests.videos import HEIGHT, WIDTH, numbered


class _Bits:
    def __init__(self) -> None:
        self._bits: list[str] = []

    def put(self, value: int, count: int) -> None:
        self._bits.append(f"{value:0{count}b}")

    def ue(self, *values: int) -> None:
        """Exponential Golomb codes; zero is the same signed."""
        for value in values:
            self._bits.append("0" * ((value + 1).bit_length() - 1) + f"{value + 1:b}")

    def align(self) -> None:
        self._bits = ["".join(self._bits)]
        self._bits.append("0" * (-len(self._bits[0]) % 8))

    def unit(self, reference: int, kind: int) -> bytes:
        """A NAL unit in Annex B form."""
        self._bits.append("1")
        self.align()
        text = "".join(self._bits)
        payload = int(text, 2).to_bytes(len(text) // 8, "big")
        escaped = bytearray()
        for byte in payload:
            if byte <= 3 and escaped[-2:] == b"\0\0":
                escaped.append(3)
            escaped.append(byte)
        return b"\0\0\0\1" + bytes([reference << 5 | kind]) + bytes(escaped)


def _parameters() -> bytes:
    sequence = _Bits()
    for byte in (77, 0, 30):  # Main profile, level 3
        sequence.put(byte, 8)
    sequence.ue(0, 0, 0, 4, 1)  # ids; 4 bits of frame_num, POC type 0 of 8 bits; one reference
    sequence.put(0, 1)
    sequence.ue(WIDTH // 16 - 1, HEIGHT // 32 - 1)
    sequence.put(0b00100, 5)  # frame_mbs_only 0, adaptive 0, direct 8x8; no cropping, no VUI
    picture = _Bits()
    picture.ue(0, 0)
    picture.put(0b00, 2)  # CAVLC
    picture.ue(0, 0, 0)
    picture.put(0, 3)
    picture.ue(0, 0, 0)
    picture.put(0b100, 3)  # deblocking is told per slice
    return sequence.unit(3, 7) + picture.unit(3, 8)


def _field(planes: list[np.ndarray], number: int, bottom: int) -> bytes:
    """One field of a frame: the first is an IDR picture, the second refers to nothing either."""
    bits = _Bits()
    bits.ue(0, 7, 0)  # I slices
    bits.put(0, 4)
    bits.put(1, 1)
    bits.put(bottom, 1)
    if not bottom:
        bits.ue(number % 2)
    bits.put(bottom, 8)
    bits.put(0, 1 if bottom else 2)
    bits.ue(0, 1)  # quantizer; no deblocking
    luma, *chroma = (plane[bottom::2] for plane in planes)
    for y in range(luma.shape[0] // 16):
        for x in range(luma.shape[1] // 16):
            bits.ue(25)  # I_PCM
            bits.align()
            blocks = [luma[16 * y :, 16 * x :][:16, :16]]
            blocks += [plane[8 * y :, 8 * x :][:8, :8] for plane in chroma]
            for byte in b"".join(block.tobytes() for block in blocks):
                bits.put(byte, 8)
    return bits.unit(1, 1 if bottom else 5)


def write_field_pictures(path: Path, count: int, *, together: bool) -> Path:
    """A transport stream of numbered frames, 25 a second.

    Args:
        together: both fields of a frame in one PES packet, with one pts; else each in its own.
    """
    import av

    with av.open(str(path), "w") as output:
        stream = output.add_stream("h264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number, image in enumerate(numbered(count)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            packed = frame.to_ndarray()
            luma, rest = packed[:HEIGHT], packed[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)
            planes = [luma, rest[0], rest[1]]
            fields = [_field(planes, number, bottom) for bottom in (0, 1)]
            fields[0] = b"\0\0\0\1\x09\x10" + _parameters() + fields[0]
            fields[1] = fields[1] if together else b"\0\0\0\1\x09\x10" + fields[1]
            for half, data in enumerate([b"".join(fields)] if together else fields):
                packet = av.Packet(data)
                packet.pts = packet.dts = 1800 * (2 * number + half)
                packet.time_base = stream.time_base = Fraction(1, 90_000)
                packet.is_keyframe = not half
                packet.stream = stream
                output.mux(packet)
    return path
