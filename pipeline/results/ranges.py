"""Tables cut into ranges of bounded size, so that they can be read in order one by one.

Rows are in the order of (video_id, frame_index) within each file, and in no order among files. A
cut is a half-open interval of such keys, which statistics of files and row groups find; begin and
end are open, so that all cuts together miss no key, whatever has landed meanwhile::

    shards    a:0-99  a:100-199  b:0-9  c:0-9  c:10-19      at most 150 frames a cut
    cuts      ... a:100 |  a:100 ... b:0 |  b:0 ...
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import pyarrow.compute as pc

from pipeline.results.where import every

Key: TypeAlias = tuple[str, int]
"""(video_id, frame_index)."""


@dataclass(frozen=True)
class Cut:
    """Keys from `first` up to, not including, `stop`; None is open."""

    first: Key | None
    stop: Key | None

    def expression(self) -> pc.Expression | None:
        """What holds of the rows of the cut; None where that is every row."""
        video, frame = pc.field("video_id"), pc.field("frame_index")
        if self.first and self.stop and self.first[0] == self.stop[0]:
            here = video == self.first[0]
            return here & (frame >= self.first[1]) & (frame < self.stop[1])
        parts = []
        if self.first:
            name, index = self.first
            parts.append((video > name) | ((video == name) & (frame >= index)))
        if self.stop:
            name, index = self.stop
            parts.append((video < name) | ((video == name) & (frame < index)))
        return every(parts)

    def among(self, video_ids: list[str]) -> list[str]:
        """Those of ascending video ids that the cut has keys of."""
        low = self.first[0] if self.first else ""
        high = self.stop[0] if self.stop else None
        return [v for v in video_ids if v >= low and (high is None or v <= high)]


def cuts_of(shards: Iterable[tuple[str, int, int, int]], most: int) -> list[Cut]:
    """Cuts of about `most` frames at most; of exactly as many where shards are no larger.

    Args:
        shards: (video_id, first frame, last frame, count of frames), in order.
    """
    bounds: list[Key] = []
    held = 0
    # The shards table may name one twice, after a crash.
    for video_id, first, count in _pieces(shards, most):
        if held and held + count > most:
            bounds.append((video_id, first))
            held = 0
        held += count
    return [Cut(first, stop) for first, stop in pairwise([None, *sorted(set(bounds)), None])]


def _pieces(
    shards: Iterable[tuple[str, int, int, int]], most: int
) -> Iterator[tuple[str, int, int]]:
    """(video_id, first frame, count): shards, larger ones in equal ranges of frames, which hold
    equally many where sampling is even."""
    for video_id, first, last, count in shards:
        parts = -(-count // most) or 1
        for part in range(parts):
            yield video_id, first + (last + 1 - first) * part // parts, -(-count // parts)
