"""What to say of a video or a frame that is not there: what is near."""

from __future__ import annotations

import difflib
import os

import numpy as np
import pyarrow as pa


def no_video(video: str, uris: pa.ChunkedArray) -> str:
    """Of a video that is none of `uris`."""
    names = uris.slice(0, 20_000).to_pylist()
    base = {os.path.basename(name): name for name in names}
    near = difflib.get_close_matches(video, names, n=3, cutoff=0.6)
    near += [base[b] for b in difflib.get_close_matches(os.path.basename(video), base, n=3)]
    if near:
        hint = f"did you mean {' or '.join(dict.fromkeys(near))}?"
    else:
        hint = f"it has {len(uris):,} videos" + (f", such as {names[0]}" if names else "")
    return f"no video {video}; {hint}"


def no_frame(video: str, index: int, there: np.ndarray) -> str:
    """Of a frame that is none of the frame indices `there`."""
    if not len(there):
        return f"video {video} has no frames yet"
    there = np.sort(there)
    nearest = there[np.argsort(np.abs(there - index), kind="stable")[:2]]
    return (
        f"video {video} has no frame {index}; nearest are "
        f"{' and '.join(str(int(n)) for n in np.sort(nearest))} "
        f"({len(there):,} frames from {int(there[0])} to {int(there[-1])})"
    )
