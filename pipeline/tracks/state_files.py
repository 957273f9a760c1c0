"""Tensors of trackers between two shards, in files beside the tables while a video is followed.

    OUTPUT/_tracks/ANALYSIS-VIDEO_ID/SHARD-SUM.safetensors

Written before the shard's rows land, whose row of `shards` names the sum (sha256); gone once the
rows of a later shard have landed, or the last. A file that is missing or damaged costs time and
nothing else: the video is followed again from its beginning, and what has landed stays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from pipeline.ledger.folder import folder_at

FOLDER = "_tracks"
_SUM_DIGITS = 16


class StateFiles:
    """Those of one analysis in an output."""

    def __init__(self, output: str, analysis: str) -> None:
        self._folder = folder_at(output)
        self._root = f"{FOLDER}/{analysis}-"

    def write(self, video_id: str, shard_index: int, tensors: bytes) -> str:
        """Keep the state behind a shard; its sha256 in hex. Raises OSError."""
        checksum = hashlib.sha256(tensors).hexdigest()
        name = self._name(video_id, shard_index, checksum)
        try:
            self._folder.write(name, tensors)
        except FileNotFoundError:
            # Whoever has seen the video done has removed the folder meanwhile.
            self._folder.write(name, tensors)
        return checksum

    def read(self, video_id: str, shard_index: int, checksum: str) -> bytes | None:
        """The state behind a shard, None where it is not there as it was written."""
        try:
            tensors = self._folder.read(self._name(video_id, shard_index, checksum))
        except FileNotFoundError:
            return None
        return tensors if hashlib.sha256(tensors).hexdigest() == checksum else None

    def forget(self, video_id: str, before: int | None = None) -> None:
        """Remove a video's, or those behind shards that come before one."""
        if before is None:
            self._folder.remove_folder(f"{self._root}{video_id}")
            return
        names = [entry.name for entry in self._folder.listed(f"{self._root}{video_id}")]
        self._folder.remove(name for name in names if _shard_of(name) < before)

    def sweep(self, is_done: Callable[[str], bool]) -> None:
        """Remove what a run left that died after a video's last rows had landed."""
        files = [entry.name for entry in self._folder.listed(FOLDER)]
        mine = {name.removeprefix(self._root) for name in files if name.startswith(self._root)}
        for video_id in {name.partition("/")[0] for name in mine}:
            if is_done(video_id):
                self.forget(video_id)

    def _name(self, video_id: str, shard_index: int, checksum: str) -> str:
        file = f"{shard_index:06d}-{checksum[:_SUM_DIGITS]}.safetensors"
        return f"{self._root}{video_id}/{file}"


def _shard_of(name: str) -> int:
    return int(name.rpartition("/")[2].partition("-")[0])
