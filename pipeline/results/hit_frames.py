"""The exact pictures of what a search found: written as files, and on a contact sheet."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipeline.errors import UsageError, VideoError
from pipeline.results.pixels import read_frames

if TYPE_CHECKING:
    from PIL.Image import Image

    from pipeline.ledger.reader import Ledger
    from pipeline.results.search import Hit

Format = Literal["png", "jpg"]
JPEG_QUALITY = 92


def pictures_of(
    ledger: Ledger, hits: Sequence[Hit], tell: Callable[[str], None]
) -> Iterator[tuple[Hit, np.ndarray]]:
    """(hit, RGB uint8 (height, width, 3) as displayed), video by video, each decoded once.

    Hits of a video that is gone, has changed or cannot be decoded are left out, and `tell` is given
    a line for it.
    """
    by_video: dict[str, list[Hit]] = {}
    for hit in hits:
        by_video.setdefault(hit.video_id, []).append(hit)
    for video_id, mine in by_video.items():
        at: dict[int, list[Hit]] = {}
        for hit in mine:  # Two tracks may have the same best frame.
            at.setdefault(hit.frame_index, []).append(hit)
        try:
            for frame, rgb in read_frames(ledger, mine[0].uri or video_id, at):
                for hit in at.pop(frame):
                    yield hit, rgb
        except VideoError as error:
            frames = ", ".join(str(frame) for frame in sorted(at))
            tell(f"{error.reason} (no picture of frame {frames})")


def frame_name(hit: Hit, kind: Format) -> str:
    """`007_lobby_frame1234.png`: ranks sort, and the frame can be found again."""
    stem = re.sub(r"[^\w.-]+", "-", Path(hit.uri or hit.video_id).stem)[:80]
    return f"{hit.rank:03d}_{stem}_frame{hit.frame_index}.{kind}"


def save_frame(folder: Path, hit: Hit, rgb: np.ndarray, kind: Format = "png") -> Path:
    """Write one picture; nothing is there before it is whole. Raises UsageError."""
    from PIL import Image

    path = folder / frame_name(hit, kind)
    write_image(Image.fromarray(rgb), path)
    return path


def write_image(image: Image, path: Path) -> None:
    """Write a picture in the format of its suffix, .png or .jpg, whole or not at all.

    Raises UsageError for another suffix, and where the file cannot be written.
    """
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
    kind = formats.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"{path}: a picture is written as .png or .jpg")
    options = {"quality": JPEG_QUALITY, "subsampling": 0} if kind == "JPEG" else {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=path.suffix)
        try:
            with os.fdopen(handle, "wb") as file:
                image.save(file, kind, **options)
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
