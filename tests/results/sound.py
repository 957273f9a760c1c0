"""Videos with sound, for what copies it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

RATE = 48_000


def with_sound(path: Path, video: Path, codec: str = "aac", seconds: float = 2.0) -> Path:
    """The packets of `video` as they are in another file, beside a tone of so many seconds."""
    import av

    with av.open(str(video)) as source, av.open(str(path), "w") as target:
        pictures = source.streams.video[0]
        copy = target.add_stream_from_template(pictures)
        tone = target.add_stream(codec, rate=RATE)
        tone.layout = "mono"
        for packet in _encoded(tone, seconds):
            target.mux(packet)
        for packet in source.demux(pictures):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    return path


def _encoded(tone, seconds: float):
    import av

    size = tone.codec_context.frame_size or 1024
    samples = np.sin(np.arange(int(seconds * RATE)) * (2 * np.pi * 440 / RATE))
    for start in range(0, len(samples), size):
        part = (samples[start : start + size] * 20_000).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(part[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        yield from tone.encode(frame)
    yield from tone.encode(None)


def packets_of(path: Path) -> list[tuple[float, bytes]]:
    """(seconds, bytes) of every packet of sound."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        found = [p for p in container.demux(stream) if p.dts is not None]
        return [(float(p.pts * p.time_base), bytes(p)) for p in found]
