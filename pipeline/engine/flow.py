"""What may be under way: bytes of decoded pixels on each node, and who analyzes the next clip.

A clip is paid for by the node that decodes it, from before it is made until it has been analyzed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pipeline.engine.fleet import Fleet
from pipeline.engine.lanes import Board, Lane, Models, Stream, Work
from pipeline.engine.sizing import clip_bytes, clips_together
from pipeline.engine.stats import RunStats
from pipeline.records import ShardTask
from pipeline.sources.scaling import scaled_size

AHEAD_FUSED = 4
AHEAD_SPLIT = 2
"""Items of a stream that a worker makes ahead of being drawn: results are small, clips are not."""


@dataclass
class Flow:
    """Looked at anew (`look`) whenever the driver has taken in what came back."""

    board: Board
    fleet: Fleet
    stats: RunStats
    _held: Counter[str] = field(default_factory=Counter)
    """Bytes by node."""
    _streams: Counter[str] = field(default_factory=Counter)
    _free: list[Models] = field(default_factory=list)
    """Analyzers that more can be sent to."""

    @property
    def split(self) -> bool:
        return self.fleet.sizing.placement == "split"

    def look(self) -> None:
        """Count what is under way."""
        roster = self.fleet.roster
        self._held = Counter()
        self._streams = Counter(stream.lane.node for stream in self.board.streams)
        if self.split:
            for stream in self.board.streams:
                self._held[stream.lane.node] += stream.held_bytes
            self._free = [models for models in roster.models if models.takes()]
        else:
            # Pixels never leave the worker, which holds the one clip that it is filling.
            for lane in roster.lanes:
                self._held[lane.node] += _largest_clip(lane)
        self.stats.in_flight_bytes = self._held.total()
        self.stats.peak_in_flight_bytes = max(
            self.stats.peak_in_flight_bytes, self.stats.in_flight_bytes
        )

    def has_room(self, lane: Lane, work: Work) -> bool:
        """Whether another shard fits under the cap of its node; one always does, or nothing would
        go on."""
        if not self._streams[lane.node]:
            return True
        one = self.clip_bytes(work.task)
        if self.split:
            needed = one * self.together(work, lane) * (AHEAD_SPLIT + 2)
        else:
            needed = max(0, one - _largest_clip(lane))
        return self._held[lane.node] + needed <= self._cap(lane.node)

    def clip_bytes(self, task: ShardTask) -> int:
        job, size = self.fleet.job, (task.index.width, task.index.height)
        sizes = [size] if job.takes_whole(task.analyses) else []
        if job.config.cache is not None:
            sizes.append(scaled_size(*size, job.config.cache.height))
        clip = job.config.clip
        return sum(clip_bytes(*each, clip.length, clip.step) for each in sizes)

    def together(self, work: Work, lane: Lane) -> int:
        """How many clips of a shard make an item of its stream; one, where it was begun before: it
        is then seen which of them fails."""
        if work.begun or not self.split:
            return 1
        return clips_together(self.clip_bytes(work.task), self._cap(lane.node) // (AHEAD_SPLIT + 2))

    def lets_draw(self, stream: Stream) -> bool:
        """Whether another item of the stream may be on its way to an analyzer."""
        if not self.split:
            return True
        if self._analyzer(stream) is None:
            return False
        if not stream.in_flight:
            return True  # It is counted already (see `Stream.held_bytes`).
        held = self._held[stream.lane.node] + stream.item_bytes
        return held <= self._cap(stream.lane.node)

    def is_far(self, stream: Stream) -> bool:
        """Whether its next item would have to leave its node."""
        return all(models.node != stream.lane.node for models in self._free)

    def send(self, stream: Stream) -> Models | None:
        """Who gets the stream's next item: who has least to do, on its own node if there is one."""
        models = self._analyzer(stream)
        if models is not None and stream.in_flight:
            self._held[stream.lane.node] += stream.item_bytes
        return models

    def sent(self, models: Models) -> None:
        """It has been given clips."""
        if not models.takes():
            self._free.remove(models)

    def _analyzer(self, stream: Stream) -> Models | None:
        node, suspect = stream.lane.node, stream.suspect
        free = [models for models in self._free if models.takes(suspect)] if suspect else self._free
        return min(free, key=lambda one: (len(one.calls), one.node != node), default=None)

    def _cap(self, node: str) -> int:
        there = self.fleet.nodes.get(node)
        return self.fleet.sizing.in_flight_bytes(there) if there is not None else 0


def _largest_clip(lane: Lane) -> int:
    return max((item.item_bytes for item in lane.queue if isinstance(item, Stream)), default=0)
