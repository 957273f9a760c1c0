"""Videos in the forms that trip times, and what was made of them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.videos import uneven

COUNT = 60
FORMS: dict[str, dict[str, Any]] = {
    "plain.mp4": {"gop": 10},
    "b-frames.mp4": {"gop": 20, "b_frames": 3},
    "uneven.mp4": uneven(COUNT),
    "rotated.mp4": {"gop": 10, "rotation": 90},
    "odd.mp4": {"width": 129, "height": 97, "pixel_format": "yuv444p"},
    "ntsc.mkv": {"gop": 15, "b_frames": 2, "fps": Fraction(30000, 1001)},
    "transport.ts": {"gop": 15, "b_frames": 2},
    "vp9.webm": {"codec": "libvpx-vp9", "gop": 12},
    "counted.avi": {"codec": "mpeg4", "gop": 12, "fps": 25},
}


def decoded(path: Path) -> tuple[Fraction, list[int], list[np.ndarray]]:
    """Time base, pts and RGB pictures of all frames, by PyAV alone."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [(f.pts, f.to_ndarray(format="rgb24")) for f in container.decode(stream)]
        return stream.time_base, [pts for pts, _ in frames], [rgb for _, rgb in frames]
