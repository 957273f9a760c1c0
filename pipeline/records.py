"""What flows through the pipeline: small frozen records, validated when built.

Ranges are half-open. `frame_index` counts from 0 in presentation order over the whole video.
"Position" always means a position in the list of *sampled* frames of a video.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

SCALED = "scaled"
"""The key of an analysis' identity that says to what size its pictures were scaled down."""


@dataclass(frozen=True)
class Source:
    """A file as discovered, before anything of it was read."""

    uri: str
    stamp: str
    """Changes when the bytes may have changed: `size:mtime_ns` locally."""
    size_bytes: int
    modified_s: float = 0.0
    """Seconds since 1970 by the clock of where it lies; 0 where nothing tells."""


NO_FILE = Source("", "", 0)
"""Of what is made of rows: where the video lies, or whether it is still there, is no matter."""


@dataclass(frozen=True)
class VideoIndex:
    """Everything known of one video from its packets: the one truth about its frames."""

    video_id: str
    """sha256 of the file's bytes, hex."""
    pts: np.ndarray
    """int64 (frame_count,): presentation timestamp of every frame in `time_base`, ascending where
    it is exact."""
    keyframes: np.ndarray
    """int64, ascending: frame indices at which decoding can start; frame 0 is always taken. Where
    pts are not exact, nothing can be sought for."""
    time_base: Fraction
    """Seconds per pts tick."""
    stream_index: int
    container: str
    codec: str
    pixel_format: str
    width: int
    """Displayed width in pixels, after rotation."""
    height: int
    rotation: int
    """Counter-clockwise degrees from stored to displayed picture: 0, 90, 180 or 270."""
    duration_s: float
    exact_pts: bool
    """False where packets do not say when they are shown: frames are then told apart by order
    alone, `pts` are as good as the decoder's guess, and the video is decoded from its beginning."""
    expected_frames: int = 0
    """What the header promises, 0 where it says nothing; never a count."""
    damage: str = ""
    """What indexing found wrong with the file, such as its end missing; empty where nothing."""

    def __post_init__(self) -> None:
        if self.pts.dtype != np.int64 or self.pts.ndim != 1:
            raise ValueError(f"pts must be int64 of one dimension: {self.pts.dtype}")
        if self.frame_count and not (len(self.keyframes) and self.keyframes[0] == 0):
            raise ValueError("the first keyframe must be frame 0")
        if self.exact_pts and self.frame_count > 1 and not bool(np.all(np.diff(self.pts) > 0)):
            raise ValueError("exact pts must ascend strictly")

    @property
    def frame_count(self) -> int:
        return len(self.pts)

    def pts_seconds(self, pts: np.ndarray) -> np.ndarray:
        """float64 seconds of `pts`, with one rounding (numerator first, then one division)."""
        scaled = pts.astype(np.float64) * self.time_base.numerator
        return scaled / self.time_base.denominator


@dataclass(frozen=True)
class Clip:
    """A window of sampled frames: what a model is given at once.

    `[start, stop)` is the window in sampled positions; `[own_start, own_stop)` the part of it
    whose rows this clip writes. Windows may overlap, owned parts never do.
    """

    clip_index: int
    start: int
    stop: int
    own_start: int
    own_stop: int

    def __post_init__(self) -> None:
        if not self.start <= self.own_start < self.own_stop <= self.stop:
            raise ValueError(f"a clip must own a part of its own window: {self}")


@dataclass(frozen=True)
class Shard:
    """A run of consecutive clips of one video: the unit of decoding, retry and resume."""

    shard_index: int
    shard_count: int
    clips: tuple[Clip, ...]

    @property
    def own_start(self) -> int:
        return self.clips[0].own_start

    @property
    def own_stop(self) -> int:
        return self.clips[-1].own_stop


@dataclass(frozen=True)
class Analysis:
    """An analyzer with everything that changes its output, and the table it writes to."""

    name: str
    """The role: `frames`, `detector`, `embedder` or `tracker`."""
    table: str
    identity: dict[str, object]

    @property
    def takes_scaled(self) -> bool:
        """Its analyzer is given the small pictures of the frame cache."""
        return SCALED in self.identity

    @property
    def fingerprint(self) -> str:
        """16 hex digits over the canonical JSON of `identity`."""
        import json

        text = json.dumps([self.name, self.table, self.identity], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def shard_id(fingerprint: str, video_id: str, shard_index: int) -> str:
    """The id that guards a shard's commit, unique per analysis, video and shard.

    96 bits of the video's hash keep the log small; a collision among a billion videos has a
    probability of about 1e-11.
    """
    return f"{fingerprint}-{video_id[:24]}-{shard_index}"


@dataclass(frozen=True)
class Quarantine:
    """A clip that was given up, so that the rest of its shard can be had."""

    clip_index: int
    stage: str
    """analyze or decode, as far as that is known."""
    reason: str
    attempts: int
    known: bool = False
    """By an earlier run, which has recorded it."""


@dataclass(frozen=True)
class ShardTask:
    """One shard to decode, and the analyses that still lack it. Never holds pixels."""

    source: Source
    index: VideoIndex
    sampled: np.ndarray
    """int64: the frame indices of the shard's clips, positions `[base, base + len)`."""
    base: int
    shard: Shard
    analyses: tuple[str, ...]
    """Fingerprints of the analyses to write, the frames analysis among them if it is due."""
    quarantined: tuple[Quarantine, ...] = ()
    """Clips whose own frames get no rows and are written as failed. Nothing decodes them but for
    other clips' windows, where those overlap, or on the way to the next keyframe."""

    @property
    def key(self) -> str:
        return f"{self.index.video_id}/{self.shard.shard_index}"

    @property
    def frame_count(self) -> int:
        """Sampled frames that this shard owns."""
        return self.shard.own_stop - self.shard.own_start

    def frames_of(self, start: int, stop: int) -> np.ndarray:
        """Frame indices of the sampled positions `[start, stop)`."""
        return self.sampled[start - self.base : stop - self.base]

    def own_range(self, clip: Clip) -> tuple[int, int]:
        """First and last frame index (inclusive) whose rows `clip` writes."""
        frames = self.frames_of(clip.own_start, clip.own_stop)
        return int(frames[0]), int(frames[-1])

    def healthy_clips(self) -> list[Clip]:
        """The clips that are not quarantined, in order."""
        given_up = {one.clip_index for one in self.quarantined}
        return [clip for clip in self.shard.clips if clip.clip_index not in given_up]

    def quarantined_clips(self) -> Iterator[tuple[Clip, Quarantine]]:
        """The clips that were given up, each with why."""
        by_number = {clip.clip_index: clip for clip in self.shard.clips}
        for one in self.quarantined:
            yield by_number[one.clip_index], one


@dataclass(frozen=True)
class ClipResult:
    """What the analyzers said of one clip, clip-local: rows name sampled positions."""

    task_key: str
    attempt: int
    clip: Clip
    positions: np.ndarray
    """int64: owned sampled positions that were decoded."""
    sizes: np.ndarray
    """int32 (len(positions), 2): displayed width and height of each of them."""
    rows: dict[str, pa.Table]
    """Per analysis fingerprint: a table with an int64 column `position` and the analyzer's own
    columns (see `analyzers.base`)."""
    decode_s: float
    analyze_s: dict[str, float] = field(default_factory=dict)
    """Seconds per analyzer name."""
    steps_s: dict[str, float] = field(default_factory=dict)
    """Seconds per step of an analyzer, such as `detector.forward`."""
    host_bytes: int = 0
    """Resident memory of the process that analyzed it."""
    device_bytes: int = 0
    """The most that it has held on its GPU."""
    notes: tuple[str, ...] = ()
    """What a user should hear of, such as batches cut for lack of memory."""

    @property
    def nbytes(self) -> int:
        rows = sum(table.nbytes for table in self.rows.values())
        return self.positions.nbytes + self.sizes.nbytes + int(rows)


@dataclass(frozen=True)
class ShardEnd:
    """The last thing a shard's stream yields: what the decoder saw, to be held against the plan."""

    task_key: str
    attempt: int
    clip_count: int
    missing: tuple[tuple[int, int], ...] = ()
    """Half-open ranges of frame indices (not positions) that could not be decoded; those of
    quarantined clips are not among them, since nobody tried."""
    missing_reason: str = ""
    decode_s: float = 0.0
    cached_frames: int = 0
    """Sampled frames of the shard that came from the frame cache; the others were decoded."""
    notes: tuple[str, ...] = ()
    """What a user should hear of."""


Parcel: TypeAlias = "tuple[ClipResult | ShardEnd, ...]"
"""Results of one shard that travel together: each thing sent costs more than what is in it."""


@dataclass(frozen=True)
class Failure:
    """Something that could not be done: a `failures` row."""

    uri: str
    stage: str
    """discover, index, decode, analyze or collect."""
    reason: str
    stamp: str = ""
    video_id: str | None = None
    analysis: str | None = None
    shard_index: int | None = None
    first_frame: int | None = None
    last_frame: int | None = None
    attempts: int = 1
    systemic: bool = False
    """The reason is likely not this video's own."""

    @property
    def frame_count(self) -> int:
        """Frames in the range, 0 where it names none."""
        if self.first_frame is None or self.last_frame is None:
            return 0
        return self.last_frame - self.first_frame + 1


@dataclass(frozen=True)
class VideoOutcome:
    """How a video ended: a `videos` row. `index` is None where none could be made."""

    source: Source
    index: VideoIndex | None
    status: Literal["ok", "partial", "failed"]
    reason: str = ""
