"""`frameledger render`: a part of a video with its boxes, each on the frame that it belongs to.

    find        the video, and a file that still has its bytes
    times       pts of the source's index
    decode      every frame, sampled or not, in displayed orientation
    draw        boxes, masks, labels, frame index and time
    encode      with the source's pts; the sound is copied beside it

All in one pass and in bounded memory, however long the video is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config import DecodeConfig
from pipeline.errors import UsageError
from pipeline.ledger.reader import Ledger
from pipeline.results.audio import copied_audio
from pipeline.results.boxes import BoxChoice, Boxes
from pipeline.results.draw import Style, caption, draw_caption, draw_detections
from pipeline.results.mp4 import writing
from pipeline.results.pixels import find_file
from pipeline.results.span import frame_range
from pipeline.results.target import check_target
from pipeline.results.videos import find_video
from pipeline.sources.container import open_video
from pipeline.sources.files import opened
from pipeline.sources.frames import DecodeNotes, frames_pyav

if TYPE_CHECKING:
    from pipeline.records import VideoIndex
    from pipeline.sources.files import VideoFile
    from pipeline.sources.pictures import Picture

_MOST_THREADS = 8
_SOME_RATE = Fraction(25)
"""For one frame, which has none."""


@dataclass(frozen=True)
class Rendered:
    """What was written."""

    path: str
    uri: str
    first_frame: int
    last_frame: int
    frames: int
    """Written; less than the range holds where some could not be decoded."""
    boxes: int
    """Drawn, each once for every frame that it was drawn on."""
    seconds: float
    """From the first frame to the end of the last."""
    size: tuple[int, int]
    audio: str
    """What became of the sound."""
    notes: tuple[str, ...]


def render(
    output: str,
    video: str,
    path: str,
    *,
    start: str | None = None,
    end: str | None = None,
    choice: BoxChoice | None = None,
    labels: bool = True,
    keep_pts: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Rendered:
    """Write frames of a video with their boxes to an mp4.

    Args:
        video: see `videos.find_video`.
        start, end: see `span.frame_range`; all of the video without them.
        choice: which boxes, and what is shown between sampled frames.
        labels: write class and score at the boxes.
        keep_pts: the output's pts are the source's own. Else they are so but for the first
            frame's, which is taken from all, so that the output begins at 0.
        progress: told of (frames written, frames in all) after each.

    Raises UsageError for what is not there or cannot be understood, VideoError where the file is
    gone, has other bytes now or cannot be decoded, RunAborted where the output cannot be written.
    """
    choice = choice or BoxChoice()
    target = check_target(path, ".mp4")
    ledger = Ledger(output)
    name = find_video(ledger, video)
    index = ledger.index(name)
    first, stop = frame_range(index, start, end)
    config = _config(index)
    source = find_file(ledger, name, config)
    if os.path.exists(path) and os.path.exists(source.uri) and os.path.samefile(path, source.uri):
        raise UsageError(f"-o {path}: is the video itself; give another name")
    boxes = Boxes(ledger, index.video_id, choice)
    notes = _Notes(DecodeNotes())
    pts = strictly_ascending(index.pts[first:stop])
    if not np.array_equal(pts, index.pts[first:stop]):
        notes.more.append("frames that share a time are a tick apart in the output")
    zero = 0 if keep_pts else int(pts[0])
    durations = np.append(np.diff(pts), np.diff(pts)[-1:] if len(pts) > 1 else [1])
    style = Style.of(index.width, index.height)
    written = drawn = 0
    size = index.width, index.height
    times = index.pts_seconds(index.pts)
    with (
        writing(target, size, index.time_base, _rate(index, pts)) as out,
        opened(source, "decode", config) as file,
        copied_audio(
            file,
            config,
            out,
            zero_s=zero * index.time_base,
            start_s=float(times[first]) if first else None,
            stop_s=float(times[stop]) if stop < index.frame_count else None,
        ) as (audio, heard),
    ):
        out.set_aspect(_aspect(file, config, index))
        for at, picture in frames_pyav(
            file, index, first, stop, wanted="rgb24", config=config, notes=notes.decode
        ):
            rows = boxes.on(at)
            rgb = _rgb(picture)
            draw_detections(rgb, rows, masks=choice.masks, labels=labels, style=style)
            draw_caption(rgb, caption(at, float(times[at])), style)
            if audio is not None:
                audio.up_to(float(times[at]))
            out.write(_fitted(rgb, size), int(pts[at - first]) - zero, int(durations[at - first]))
            written, drawn = written + 1, drawn + len(rows)
            if progress is not None:
                progress(written, stop - first)
        if audio is not None:
            audio.up_to()
    return Rendered(
        path=path,
        uri=source.uri,
        first_frame=first,
        last_frame=stop - 1,
        frames=written,
        boxes=drawn,
        seconds=float((int(pts[-1]) - int(pts[0]) + int(durations[-1])) * index.time_base),
        size=size,
        audio=heard,
        notes=notes.of(boxes, choice, stop - first - written, drawn),
    )


def strictly_ascending(pts: np.ndarray) -> np.ndarray:
    """int64: the same where they ascend; else each at least a tick behind the one before it."""
    places = np.arange(len(pts), dtype=np.int64)
    return np.maximum.accumulate(pts - places) + places


@dataclass
class _Notes:
    """What a user should hear of."""

    decode: DecodeNotes

    def __post_init__(self) -> None:
        self.more: list[str] = []

    def of(self, boxes: Boxes, choice: BoxChoice, missing: int, drawn: int) -> tuple[str, ...]:
        if missing:
            self.more.append(f"{missing:,} frames are left out: {self.decode.reason()}")
        who = "tracker" if choice.tracks else "detector"
        if not boxes.has_detector:
            self.more.append(f"no boxes: no {who} has run on this output")
        elif not len(boxes.sampled):
            self.more.append(f"no boxes: the {who} has not come to this video yet")
        elif not drawn and choice.classes:
            there = ", ".join(boxes.classes()) or "none"
            self.more.append(
                f"no boxes of {', '.join(choice.classes)}; classes of this video: {there}"
            )
        elif not drawn:
            self.more.append("no boxes in this range")
        return tuple(self.more)


def _config(index: VideoIndex) -> DecodeConfig:
    """All cores, and no limit that the run which indexed the video had not."""
    limits = DecodeConfig()
    return limits.model_copy(
        update={
            "threads": min(_MOST_THREADS, os.cpu_count() or 1),
            "max_pixels": max(limits.max_pixels, index.width * index.height),
        }
    )


def _rate(index: VideoIndex, pts: np.ndarray) -> Fraction:
    """Frames a second, on the average."""
    if len(pts) < 2:
        return _SOME_RATE
    return Fraction(len(pts) - 1, int(pts[-1] - pts[0])) / index.time_base


def _aspect(file: VideoFile, config: DecodeConfig, index: VideoIndex) -> Fraction:
    """Width to height of a displayed pixel."""
    with open_video(file, "decode", config) as (_, stream):
        aspect = stream.sample_aspect_ratio
    if not aspect:
        return Fraction(1)
    return 1 / aspect if index.rotation % 180 else aspect


def _rgb(picture: Picture) -> np.ndarray:
    rgb = np.empty(picture.layout.shape(1)[1:], np.uint8)
    picture.write(rgb)
    return rgb


def _fitted(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture of another size than the first, which a stream may change to, brought to that."""
    if (rgb.shape[1], rgb.shape[0]) == size:
        return rgb
    import cv2

    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
