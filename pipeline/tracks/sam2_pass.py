"""SAM 2 tracks of a video, shard by shard: its frames decoded again, next to what has landed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.config import DecodeConfig
from pipeline.config_trackers import Sam2Config
from pipeline.errors import DeviceLost, UsageError, VideoError
from pipeline.ledger.schema import MASK
from pipeline.records import ShardTask
from pipeline.results.pixels import decode_frames
from pipeline.sources.files import find_content
from pipeline.tracks.edges import Edge, Edges, EdgeTrack
from pipeline.tracks.landed import ShardRows
from pipeline.tracks.light import Boxes
from pipeline.tracks.motion import Clock, clock_of
from pipeline.tracks.sam2 import Sam2Tracker, Saved, TrackMask
from pipeline.tracks.sam2_model import checkpoint_of, load
from pipeline.tracks.shards import Opening, SavedState, ShardTracks

if TYPE_CHECKING:
    from pipeline.records import Source

_SIDES = ("x1", "y1", "x2", "y2")


class Sam2Follower:
    """See `shards.VideoFollower`."""

    def __init__(self, config: Sam2Config, decode: DecodeConfig, device: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._config = config
        self._decode = decode
        self._model = load(checkpoint_of(config), device, config.precision)
        self._tracker: Sam2Tracker | None = None

    def follow(
        self, opening: Opening | None, task: ShardTask, rows: ShardRows, is_last: bool
    ) -> ShardTracks:
        if opening is not None:
            self._open(opening)
        tracker, video = self._tracker, task.index.video_id
        if tracker is None or self._opening.index.video_id != video:
            raise VideoError("analyze", "the process that followed the video was replaced")
        self._names |= rows.class_names
        # Whatever goes wrong, this process knows nothing of the video any more.
        self._tracker = None
        looked = self._look(tracker, rows)
        try:
            if self._config.parallel:
                return self._apart(tracker, looked, rows)
            found = list(chain.from_iterable(looked))
        except RuntimeError as error:
            raise _explained(error) from error
        state = self._state(tracker, is_last)
        self._tracker = None if is_last else tracker
        return ShardTracks(_columns(found, self._names), state)

    def _apart(
        self, tracker: Sam2Tracker, looked: Iterator[list[_Row]], rows: ShardRows
    ) -> ShardTracks:
        """The tracks of a shard that is followed apart from the others."""
        frames, most = rows.frames.tolist(), self._config.overlap_frames
        before = list(chain.from_iterable(islice(looked, rows.lead)))
        head = _edge(tracker, before, frames[: rows.lead])
        found = list(chain.from_iterable(looked))
        tail = _edge(tracker, found, frames[rows.lead :][-most:])
        return ShardTracks(_columns(found, self._names), SavedState({}), Edges(head, tail))

    def _open(self, opening: Opening) -> None:
        self._tracker = None
        self._opening = opening
        self._source: Source = find_content(opening.index.video_id, opening.places, self._decode)
        self._clock: Clock = clock_of(opening.index)
        saved, self._names = None, dict(opening.names)
        if opening.saved is not None:
            from safetensors.torch import load as tensors_of

            facts = opening.saved.facts
            saved = Saved(facts["tracker"], tensors_of(opening.saved.tensors))
            self._names |= dict(facts["names"])
        self._tracker = Sam2Tracker(self._config, self._model, saved)

    def _look(self, tracker: Sam2Tracker, rows: ShardRows) -> Iterator[list[_Row]]:
        """What a tracker says of one frame after the other."""
        frames = rows.frames.tolist()
        pictures = decode_frames(self._source, self._opening.index, frames, self._decode)
        for number, (frame, pixels) in enumerate(pictures):
            at = slice(rows.begins[number], rows.begins[number + 1])
            boxes = Boxes(rows.xyxy[at], rows.scores[at], rows.class_ids[at])
            prompts = self._opening.prompts.get(frame, ())
            seconds, pts_s = float(self._clock.seconds[frame]), float(rows.pts_s[number])
            try:
                tracks = tracker.step(seconds, pixels, boxes, prompts)
            except UsageError as error:
                # Of a prompt by hand, in this video.
                raise VideoError("prompts", f"frame {frame}: {error}") from None
            height, width, _ = pixels.shape
            yield [_Row(frame, pts_s, [height, width], track) for track in tracks]

    def _state(self, tracker: Sam2Tracker, is_last: bool) -> SavedState:
        names = sorted(self._names.items())
        if is_last:
            return SavedState({"tracker": None, "names": names})
        from safetensors.torch import save

        saved = tracker.save()
        return SavedState({"tracker": saved.facts, "names": names}, save(saved.tensors))


class _Row(NamedTuple):
    """A track in a frame."""

    frame: int
    pts_s: float
    size: list[int]
    """Height and width."""
    track: TrackMask

    @property
    def rle(self) -> dict[str, Any] | None:
        """As pycocotools has it."""
        counts = self.track.mask
        return None if counts is None else {"size": self.size, "counts": counts}


def _edge(tracker: Sam2Tracker, found: list[_Row], frames: list[int]) -> Edge:
    """What is known in these frames of the tracks that are alive behind them."""
    masks: dict[int, dict[int, dict[str, Any]]] = {}
    for row in found:
        if row.rle is not None and frames[0] <= row.frame:
            masks.setdefault(row.track.track_id, {})[row.frame] = row.rle
    tracks = [
        EdgeTrack(number, class_id, masks[number], pointer)
        for number, class_id, pointer in tracker.alive()
        if number in masks
    ]
    return Edge(tuple(frames), tuple(tracks))


def _columns(found: list[_Row], names: dict[int, str]) -> dict[str, pa.Array]:
    """The columns of `tracks`, but for the ids that all rows share."""
    tracks = [row.track for row in found]
    sides = np.array([one.box for one in tracks], np.float64).reshape(-1, 4).astype(np.float32)
    masks = [row.rle and {**row.rle, "counts": row.rle["counts"].decode()} for row in found]
    states = ["lost" if one.mask is None else "tracked" for one in tracks]
    return {
        "frame_index": pa.array([row.frame for row in found], pa.int64()),
        "pts_s": pa.array([row.pts_s for row in found], pa.float64()),
        "track_id": pa.array([one.track_id for one in tracks], pa.int32()),
        "detection_index": pa.array([one.detection for one in tracks], pa.int32()),
        **{side: pa.array(sides[:, at]) for at, side in enumerate(_SIDES)},
        "score": pa.array([one.score for one in tracks], pa.float32()),
        "class_id": pa.array([one.class_id for one in tracks], pa.int32()),
        "class_name": pa.array([names.get(one.class_id) for one in tracks], pa.string()),
        "state": pa.array(states, pa.string()),
        "mask": pa.array(masks, MASK),
    }


def _explained(error: RuntimeError) -> VideoError:
    """What torch raises, as a failure of the video."""
    import torch

    from pipeline.analyzers.device import is_device_lost

    line = " ".join(str(error).split())[:300]
    if is_device_lost(error):
        return DeviceLost("analyze", line)
    if isinstance(error, torch.OutOfMemoryError):
        what = "the GPU's memory is full; set tracker.offload, or lower tracker.most_objects"
        return VideoError("analyze", f"{what} ({line})", systemic=True)
    return VideoError("analyze", f"{type(error).__name__}: {line}")
