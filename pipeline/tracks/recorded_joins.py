"""Where tracks of shards that were followed apart were taken for one, as it was recorded with their
rows: in the state behind each shard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.tracks.state import unpack

if TYPE_CHECKING:
    from pipeline.ledger.reader import Ledger

JOINS = pa.schema(
    [
        ("video_id", pa.string()),
        ("analysis", pa.string()),
        ("run_id", pa.string()),
        ("frame_index", pa.int64()),
        ("track_id", pa.int32()),
        ("iou", pa.float64()),
        ("similarity", pa.float64()),
    ]
)
_COLUMNS = ["video_id", "analysis", "run_id", "first_frame", "state"]


def recorded_joins(
    ledger: Ledger, video: str | None = None, analysis: str | None = None
) -> pa.Table:
    """A row in `JOINS` for each track that goes on across the border of two shards, by video and
    frame; none where shards were followed one after the other.

    Args:
        video: uri or video_id; all that are current where None.
        analysis: fingerprint of the tracks, or its beginning; the newest where None.

    The frame is the first of the shard behind the border. `iou` is that of the masks of both shards
    in the frames before it which both have seen, `similarity` the cosine of the angle between what
    the model has kept of both objects (see `joins`).

    Raises UsageError for an unknown video or analysis.
    """
    wanted = ~pc.field("state").is_null()
    if video is not None:
        wanted &= pc.field("video_id") == ledger.video_id(video)
    rows = ledger.table("shards", _COLUMNS, wanted, analysis)
    order = [(name, "ascending") for name in ("video_id", "first_frame")]
    found = [
        {**shard, "frame_index": shard["first_frame"], **join}
        for shard in rows.sort_by(order).to_pylist()
        for join in unpack(shard["state"]).get("joins", ())
    ]
    return pa.Table.from_pylist(found, schema=JOINS)
