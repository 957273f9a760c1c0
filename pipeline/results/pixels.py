"""Exact pictures of given frames of a video, through the index and the decoder of the run.

Where wanted frames lie close together, one pass decodes them all; else each group is sought for::

    keyframes  |-----------|-----------|---- ... ----|-----------|
    wanted       x  x   x     x                         x    x
    passes     [ one pass from the keyframe ]        [ another ]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config import DecodeConfig
from pipeline.errors import UsageError, VideoError
from pipeline.records import Source, VideoIndex

if TYPE_CHECKING:
    from pipeline.ledger.reader import Ledger

NEAR_FRAMES = 30
"""Frames between one that is wanted and the next keyframe up to which decoding goes on rather than
seeking: opening a container and a decoder anew costs as much as some tens of small frames."""


def read_frames(
    ledger: Ledger, video: str, frames: Iterable[int], config: DecodeConfig | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """The pictures of these frames as (frame_index, RGB), ascending, each once.

    Args:
        video: uri or video_id.
        frames: indices over the whole video, from 0, in any order; sampled by a run or not.
        config: limits and threads of decoding.

    A picture is uint8 (height, width, 3) in displayed orientation, and the caller's own.

    Raises UsageError for a video or a frame that is not there; VideoError, naming the file, where
    that is gone, has other bytes now, or cannot be decoded at a frame.
    """
    index = ledger.index(video)
    source = find_file(ledger, video, config)
    return decode_frames(source, index, frames, config)


def find_file(ledger: Ledger, video: str, config: DecodeConfig | None = None) -> Source:
    """The file that has the content of a video now, by uri or video_id.

    Raises UsageError where the video is unknown, VideoError, naming the file, where none has it.
    """
    import pyarrow.compute as pc

    from pipeline.sources.files import find_content

    video_id = ledger.index(video).video_id
    rows = ledger.table("videos", ["uri", "stamp"], pc.field("video_id") == video_id).to_pylist()
    # That of this name first: another file may have the same bytes.
    places = sorted({(row["uri"], row["stamp"]) for row in rows}, key=lambda at: at[0] != video)
    try:
        return find_content(video_id, places, config or DecodeConfig())
    except VideoError as error:
        raise _naming(places[0][0] if places else video, error) from None


def decode_frames(
    source: Source, index: VideoIndex, frames: Iterable[int], config: DecodeConfig | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """As `read_frames`, of a file whose index is at hand."""
    wanted = sorted({int(frame) for frame in frames})
    if wanted and not (wanted[0] >= 0 and wanted[-1] < index.frame_count):
        outside = wanted[0] if wanted[0] < 0 else wanted[-1]
        raise UsageError(
            f"video {source.uri}: no frame {outside}; it has {index.frame_count:,}, from 0 to "
            f"{index.frame_count - 1}"
        )
    return _decode(source, index, wanted, config or DecodeConfig())


def _decode(
    source: Source, index: VideoIndex, wanted: list[int], config: DecodeConfig
) -> Iterator[tuple[int, np.ndarray]]:
    from pipeline.sources.files import opened
    from pipeline.sources.frames import DecodeNotes, frames_pyav

    try:
        with opened(source, "decode", config) as file:
            for group in passes(wanted, index):
                notes, due = DecodeNotes(), iter(group)
                at = next(due)
                stop = group[-1] + 1
                for frame_index, picture in frames_pyav(
                    file, index, group[0], stop, wanted="rgb24", config=config, notes=notes
                ):
                    if frame_index > at:
                        break
                    if frame_index == at:
                        rgb = np.empty(picture.layout.shape(1)[1:], np.uint8)
                        picture.write(rgb)
                        yield at, rgb
                        at = next(due, stop)
                if at != stop:
                    raise VideoError("decode", f"frame {at}: {notes.reason()}")
    except VideoError as error:
        raise _naming(source.uri, error) from None


def passes(wanted: Sequence[int], index: VideoIndex) -> list[list[int]]:
    """Ascending frames in groups that are decoded in one go each, from a keyframe on.

    A frame joins the group before it where the keyframe that it needs lies up to `NEAR_FRAMES`
    behind the last frame of that. Without exact pts nothing can be sought for: one group.
    """
    groups: list[list[int]] = []
    for frame in wanted:
        start = int(index.keyframes[np.searchsorted(index.keyframes, frame, side="right") - 1])
        if groups and (not index.exact_pts or start <= groups[-1][-1] + NEAR_FRAMES):
            groups[-1].append(frame)
        else:
            groups.append([frame])
    return groups


def _naming(uri: str, error: VideoError) -> VideoError:
    return VideoError(error.stage, f"video {uri}: {error.reason}", error.systemic)
