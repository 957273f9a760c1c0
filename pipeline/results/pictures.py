"""Pictures of frames in bulk: what is known of the videos is read once, and can be pickled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from pipeline.config import DecodeConfig
from pipeline.errors import VideoError
from pipeline.ledger.frame import Frame, FrameBatch
from pipeline.ledger.indexes import index_of
from pipeline.results.pixels import decode_frames
from pipeline.sources.files import find_content

if TYPE_CHECKING:
    from pipeline.ledger.reader import Ledger
    from pipeline.records import Source, VideoIndex


class Pictures:
    """Decodes frames of the videos that an output knows by now."""

    def __init__(self, ledger: Ledger) -> None:
        self._indexes = ledger.view("indexes", current=False)
        self._videos = ledger.view("videos")
        self._last: tuple[Source, VideoIndex] | None = None

    def of(self, batch: FrameBatch) -> Iterator[tuple[Frame, np.ndarray]]:
        """Frames that could be decoded, each with its picture, in the order of the batch.

        A picture is uint8 (height, width, 3), RGB, as displayed. Raises VideoError, naming the
        file, where that is gone or has other bytes now.
        """
        for video_id, frames in _by_video(batch):
            source, index = self._open(video_id)
            pictures = decode_frames(source, index, [frame.frame_index for frame in frames])
            for frame, (frame_index, picture) in zip(frames, pictures, strict=True):
                assert frame.frame_index == frame_index
                yield frame, picture

    def _open(self, video_id: str) -> tuple[Source, VideoIndex]:
        if self._last is None or self._last[1].video_id != video_id:
            this = pc.field("video_id") == video_id
            rows = self._videos.also(this).table(["uri", "stamp"]).to_pylist()
            places = sorted({(row["uri"], row["stamp"]) for row in rows})
            try:
                source = find_content(video_id, places, DecodeConfig())
            except VideoError as error:
                name = places[0][0] if places else video_id
                raise VideoError(error.stage, f"video {name}: {error.reason}") from None
            self._last = source, index_of(self._indexes.also(this).table())
        return self._last


def _by_video(batch: FrameBatch) -> Iterator[tuple[str, list[Frame]]]:
    there: Iterable[Frame] = (frame for frame in batch if frame.row["status"] == "ok")
    held: list[Frame] = []
    for frame in there:
        if held and held[0].video_id != frame.video_id:
            yield held[0].video_id, held
            held = []
        held.append(frame)
    if held:
        yield held[0].video_id, held
