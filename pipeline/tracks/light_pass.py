"""Light tracks of a video, shard by shard."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipeline.config_trackers import ByteTrackConfig, OCSortConfig
from pipeline.ledger.schema import MASK
from pipeline.records import ShardTask
from pipeline.tracks.landed import ShardRows
from pipeline.tracks.light import Boxes, LightTracker, TrackBox
from pipeline.tracks.motion import Clock, clock_of
from pipeline.tracks.shards import Opening, SavedState, ShardTracks


class LightFollower:
    """See `shards.VideoFollower`."""

    def __init__(self, config: ByteTrackConfig | OCSortConfig) -> None:
        self._config = config

    def follow(
        self, opening: Opening | None, task: ShardTask, rows: ShardRows, is_last: bool
    ) -> ShardTracks:
        if opening is not None:
            saved = opening.saved.facts if opening.saved else {"tracker": None, "names": []}
            self._clock = clock_of(opening.index)
            self._tracker = LightTracker(self._config, self._clock.frames_per_s, saved["tracker"])
            self._names: dict[int, str] = dict(saved["names"])
        columns = track_shard(self._tracker, self._clock, self._names, rows)
        names = sorted(self._names.items())
        return ShardTracks(columns, SavedState({"tracker": self._tracker.save(), "names": names}))


def track_shard(
    tracker: LightTracker, clock: Clock, names: dict[int, str], rows: ShardRows
) -> dict[str, pa.Array]:
    """The columns of `tracks`, but for the ids that all rows share, for one shard.

    Args:
        tracker: has seen the frames before; sees those of the shard.
        names: of classes by their ids; those of the shard are added.
        rows: what has landed of it. Frames that could not be decoded are passed over.
    """
    names |= rows.class_names
    found: list[tuple[int, float, TrackBox, float | None]] = []
    for number, frame in enumerate(rows.frames.tolist()):
        at = slice(rows.begins[number], rows.begins[number + 1])
        boxes = Boxes(rows.xyxy[at], rows.scores[at], rows.class_ids[at])
        size = int(rows.sizes[number, 0]), int(rows.sizes[number, 1])
        for one in tracker.step(float(clock.seconds[frame]), size, boxes):
            score = None if one.detection is None else float(boxes.scores[one.detection])
            found.append((frame, float(rows.pts_s[number]), one, score))
    tracks = [one for _, _, one, _ in found]
    sides = np.array([one.box for one in tracks], np.float64).reshape(-1, 4).astype(np.float32)
    lost = [one.detection is None for one in tracks]
    return {
        "frame_index": pa.array([frame for frame, _, _, _ in found], pa.int64()),
        "pts_s": pa.array([seconds for _, seconds, _, _ in found], pa.float64()),
        "track_id": pa.array([one.track_id for one in tracks], pa.int32()),
        "detection_index": pa.array([one.detection for one in tracks], pa.int32()),
        **{side: pa.array(sides[:, at]) for at, side in enumerate(("x1", "y1", "x2", "y2"))},
        "score": pa.array([score for _, _, _, score in found], pa.float32()),
        "class_id": pa.array([one.class_id for one in tracks], pa.int32()),
        "class_name": pa.array([names.get(one.class_id) for one in tracks], pa.string()),
        "state": pa.array(["lost" if one else "tracked" for one in lost], pa.string()),
        "mask": pa.nulls(len(found), MASK),
    }
