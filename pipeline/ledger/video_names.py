"""Which content a video is, by its uri or by the id of the content."""

from __future__ import annotations

import pyarrow.compute as pc

from pipeline.errors import UsageError
from pipeline.ledger.files import Files
from pipeline.ledger.hints import no_video
from pipeline.ledger.scan import read_table
from pipeline.ledger.snapshots import Snapshots

_NAMED = 10_000
"""Uris whose video ids are kept in memory."""


class VideoNames:
    """The videos of an output, as `snapshots` has its tables."""

    def __init__(self, output: str, snapshots: Snapshots) -> None:
        self._output = output
        self._snapshots = snapshots
        self._named: tuple[Files, dict[str, str]] | None = None
        """The video ids of uris that were asked for, as long as `videos` has these files."""

    def video_id(self, video: str) -> str:
        """Of a uri its newest content; of a content itself. Raises UsageError where there is
        none."""
        videos = self._snapshots.files("videos")
        if self._named is None or self._named[0] is not videos or len(self._named[1]) >= _NAMED:
            self._named = videos, {}
        named = self._named[1]
        if video in named:
            return named[video]
        by_uri = videos.rows(uri=video)
        if by_uri.num_rows:
            latest = by_uri.sort_by("recorded_at").to_pylist()[-1]
            if latest["video_id"] is None:
                raise UsageError(
                    f"{self._output}: video {video} could not be read: {latest['reason']}"
                )
            named[video] = latest["video_id"]
            return named[video]
        if videos.rows(video_id=video).num_rows or self._in_work(video):
            return video
        uris = read_table(videos.all, ["uri"]).column("uri").unique()
        raise UsageError(f"{self._output}: {no_video(video, uris)}")

    def _in_work(self, video_id: str) -> bool:
        """Whether shards of a video have landed that no row of `videos` names yet."""
        wanted = pc.field("video_id") == video_id
        few = self._snapshots.files("shards").having(video_id=video_id)
        return read_table(few, ["shard_id"], wanted).num_rows > 0
