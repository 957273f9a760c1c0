"""Figures of a run while it goes on, and the small answers of the collector that they come from."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from pipeline.engine.reasons import Reasons
from pipeline.records import ClipResult, ShardEnd


@dataclass
class Left:
    """Work that a run knows of and has not done; in videos but for the last two."""

    why: str = ""
    """What ended the run before all was done."""
    videos: int = 0
    """Those that it did not come to, or did in part."""
    other_run: int = 0
    """Those that another run had taken when it ended."""
    counted: bool = True
    """False where it did not look through the rest of its inputs: there may be more."""
    planned_shards: int = 0
    planned_frames: int = 0
    """Of videos that were planned: shards that were not begun, and their sampled frames."""

    def __bool__(self) -> bool:
        return bool(self.videos or self.other_run or not self.counted)


@dataclass
class RunStats:
    """Figures of a run while it goes on; progress displays read them, engines write them."""

    videos: dict[str, int] = field(default_factory=lambda: {"ok": 0, "partial": 0, "failed": 0})
    skipped_done: int = 0
    known_partial: int = 0
    """Of those done before: videos of which frames are missing."""
    known_failed: int = 0
    videos_started: int = 0
    shards: int = 0
    clips: int = 0
    frames: int = 0
    """Rows of `frames` from shards that are whole."""
    cached_frames: int = 0
    """Of those: frames that were not decoded, since the frame cache had them."""
    frames_seen: int = 0
    """Frames decoded and analyzed so far, those of unfinished shards among them."""
    rows: dict[str, int] = field(default_factory=dict)
    worked: set[str] = field(default_factory=set)
    """Fingerprints of the analyses that any video lacked."""
    failures: int = 0
    retries: int = 0
    in_flight_bytes: int = 0
    peak_in_flight_bytes: int = 0
    decode_s: float = 0.0
    analyze_s: dict[str, float] = field(default_factory=dict)
    steps_s: dict[str, float] = field(default_factory=dict)
    """Seconds per step of an analyzer, such as `detector.forward`."""
    host_bytes: int = 0
    """The most that any process which analyzes has held."""
    device_bytes: int = 0
    """The same on its GPU."""
    tracked: int = 0
    """Videos of which tracks were made, whole or on from where they had ended."""
    tracks_failed: int = 0
    """Videos of which they were given up, now or before."""
    track_s: float = 0.0
    commit_s: float = 0.0
    commits: int = 0
    started_at: float = field(default_factory=time.perf_counter)
    first_work_at: float | None = None
    """When the first shard was handed out: what came before is start-up."""
    last_result_at: float | None = None
    engine: str = ""
    placement: str = ""
    decoders: int = 0
    """The most that have been there at once."""
    analyzers: int = 0
    decoder_s: float = 0.0
    """Seconds that they have been there, summed over all of them."""
    analyzer_s: float = 0.0
    _there: tuple[float, int, int] | None = None
    """When they were last counted, and how many there were."""

    left: Left = field(default_factory=Left)
    reasons: Reasons = field(default_factory=Reasons)
    waiting_for: str = ""
    """What keeps the run from starting, in words."""
    notes: dict[str, int] = field(default_factory=dict)
    """What analyzers want a user to hear of, and how often they said it."""

    def say(self, line: str) -> None:
        self.waiting_for = line

    def note(self, line: str) -> None:
        """Something that a user should hear of at the end."""
        self.notes[line] = self.notes.get(line, 0) + 1

    def there(self, decoders: int, analyzers: int) -> None:
        """So many there are from now on."""
        now = time.perf_counter()
        since, *before = self._there or (now, 0, 0)
        self.decoder_s += (now - since) * before[0]
        self.analyzer_s += (now - since) * before[1]
        self._there = now, decoders, analyzers
        self.decoders = max(self.decoders, decoders)
        self.analyzers = max(self.analyzers, analyzers)

    def committed(self, commits: int, seconds: float) -> None:
        self.commits += commits
        self.commit_s += seconds

    def saw(self, ack: Ack) -> None:
        for note in ack.notes:
            self.note(note)
        self.clips += ack.clips
        self.frames_seen += ack.frames
        self.decode_s += ack.decode_s
        _add(self.analyze_s, ack.analyze_s)
        _add(self.steps_s, ack.steps_s)
        self.host_bytes = max(self.host_bytes, ack.host_bytes)
        self.device_bytes = max(self.device_bytes, ack.device_bytes)
        self.last_result_at = time.perf_counter()

    @property
    def videos_begun_only(self) -> int:
        """Videos that were handed out and have not ended."""
        return self.videos_started - sum(self.videos.values())

    @property
    def startup_s(self) -> float:
        return (self.first_work_at or time.perf_counter()) - self.started_at

    @property
    def steady_s(self) -> float:
        """From the first shard handed out to the last result."""
        if self.first_work_at is None or self.last_result_at is None:
            return 0.0
        return self.last_result_at - self.first_work_at

    @property
    def frames_per_s(self) -> float:
        return self.frames_seen / self.steady_s if self.steady_s > 0 else 0.0


@dataclass
class Ack:
    """What the collector says of a parcel: small, for the driver."""

    task_key: str
    attempt: int
    clips: int = 0
    frames: int = 0
    decode_s: float = 0.0
    analyze_s: dict[str, float] = field(default_factory=dict)
    steps_s: dict[str, float] = field(default_factory=dict)
    host_bytes: int = 0
    device_bytes: int = 0
    ended: ShardEnd | None = None
    """Set once the shard is whole: all its clips and its end are here."""
    rows: dict[str, int] = field(default_factory=dict)
    """Rows per table of the shard that is whole."""
    commits: int = 0
    """Since the acknowledgement before."""
    commit_s: float = 0.0
    unknown: bool = False
    """The collector was never told that the attempt had begun: it is another process by now."""
    notes: list[str] = field(default_factory=list)

    def count(self, result: ClipResult) -> None:
        """Add one clip of the parcel."""
        self.clips += 1
        self.notes += result.notes
        self.frames += len(result.positions)
        self.decode_s += result.decode_s
        _add(self.analyze_s, result.analyze_s)
        _add(self.steps_s, result.steps_s)
        self.host_bytes = max(self.host_bytes, result.host_bytes)
        self.device_bytes = max(self.device_bytes, result.device_bytes)


def _add(sums: dict[str, float], more: dict[str, float]) -> None:
    for name, value in more.items():
        sums[name] = sums.get(name, 0.0) + value
