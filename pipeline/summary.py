"""What a run came to: for people at its end, and as JSON for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pipeline.errors import EXIT_FAILURES, EXIT_OK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.engine.job import Job
    from pipeline.engine.stats import Left, RunStats
    from pipeline.records import Failure


@dataclass(frozen=True)
class RunSummary:
    """Counts and times of one run. Times in seconds; shares are of the workers' steady time."""

    run_id: str
    output: str
    engine: str
    placement: str
    decoders: int
    analyzers: int
    videos_ok: int
    videos_partial: int
    videos_failed: int
    videos_done_before: int
    videos_partial_before: int
    """Of `videos_done_before`: those of which frames are missing."""
    videos_failed_before: int
    shards: int
    clips: int
    frames: int
    cached_frames: int
    """Of `frames`: those that the frame cache had."""
    rows: dict[str, int]
    frames_per_s: float
    startup_s: float
    steady_s: float
    total_s: float
    decode_s: float
    analyze_s: dict[str, float]
    steps_s: dict[str, float]
    """Seconds per step of an analyzer, such as `detector.forward`."""
    host_bytes: int
    """The most that any process which analyzes has held."""
    device_bytes: int
    """The same on its GPU."""
    tracked: int
    """Videos of which tracks were made."""
    tracks_failed: int
    """Videos of which they were given up, by this run or before."""
    track_s: float
    commit_s: float
    commits: int
    shares: dict[str, float]
    """decode, analyze and wait: parts of the time that workers had, which sum to 1."""
    limit: str
    """What the run's speed hangs on, in words."""
    peak_in_flight_bytes: int
    retries: int
    left: Left
    left_to: str = ""
    """Another run at work, for which this one has left everything."""
    notes: tuple[str, ...] = ()
    """What went otherwise than configured without harm to a row, such as smaller batches."""
    problems: tuple[dict[str, object], ...] = ()
    """The first failures, as in the `failures` table."""

    @property
    def exit_code(self) -> int:
        bad = self.videos_partial + self.videos_failed
        bad += self.videos_partial_before + self.videos_failed_before + self.tracks_failed
        return EXIT_FAILURES if bad else EXIT_OK

    @property
    def did_nothing(self) -> bool:
        ended = self.videos_ok or self.videos_partial or self.videos_failed
        return not (ended or self.shards or self.tracked or self.left)

    def as_dict(self) -> dict[str, object]:
        return asdict(self) | {"exit_code": self.exit_code}


def summarize(
    job: Job, stats: RunStats, problems: Sequence[Failure] = (), left_to: str = ""
) -> RunSummary:
    import time

    shares = time_shares(stats)
    return RunSummary(
        run_id=job.run_id,
        output=job.output,
        engine=stats.engine,
        placement=stats.placement,
        decoders=stats.decoders,
        analyzers=stats.analyzers,
        videos_ok=stats.videos["ok"],
        videos_partial=stats.videos["partial"],
        videos_failed=stats.videos["failed"],
        videos_done_before=stats.skipped_done,
        videos_partial_before=stats.known_partial,
        videos_failed_before=stats.known_failed,
        shards=stats.shards,
        clips=stats.clips,
        frames=stats.frames,
        cached_frames=stats.cached_frames,
        rows=dict(stats.rows),
        frames_per_s=stats.frames_per_s,
        startup_s=stats.startup_s if stats.first_work_at else 0.0,
        steady_s=stats.steady_s,
        total_s=time.perf_counter() - stats.started_at,
        decode_s=stats.decode_s,
        analyze_s=dict(stats.analyze_s),
        steps_s=dict(stats.steps_s),
        host_bytes=stats.host_bytes,
        device_bytes=stats.device_bytes,
        tracked=stats.tracked,
        tracks_failed=stats.tracks_failed,
        track_s=stats.track_s,
        commit_s=stats.commit_s,
        commits=stats.commits,
        shares=shares,
        limit=_limit(stats, shares),
        peak_in_flight_bytes=stats.peak_in_flight_bytes,
        retries=stats.retries,
        left=stats.left,
        left_to=left_to,
        notes=tuple(
            f"{note} ({times} times)" if times > 1 else note for note, times in stats.notes.items()
        ),
        problems=tuple(asdict(problem) for problem in problems),
    )


def time_shares(stats: RunStats) -> dict[str, float]:
    """Shares of the time that decoding and analyzing processes had: decode, analyze, wait.

    Fused, every worker does both; split, decoders and analyzers are processes of their own.
    """
    had = stats.decoder_s + stats.analyzer_s
    if had <= 0:
        return {"decode": 0.0, "analyze": 0.0, "wait": 0.0}
    decode = min(1.0, stats.decode_s / had)
    analyze = min(1.0 - decode, sum(stats.analyze_s.values()) / had)
    return {"decode": decode, "analyze": analyze, "wait": max(0.0, 1.0 - decode - analyze)}


def _limit(stats: RunStats, shares: dict[str, float]) -> str:
    if stats.steady_s <= 0:
        return "nothing was processed"
    if stats.placement == "split":
        decoders = stats.decode_s / max(1e-9, stats.decoder_s)
        models = sum(stats.analyze_s.values()) / max(1e-9, stats.analyzer_s)
        if max(decoders, models) < 0.5:
            return "neither: decoders and analyzers wait (little work in parallel, or the store)"
        if decoders >= models:
            return f"decoding (decoders busy {decoders:.0%}, analyzers {models:.0%})"
        return f"the models (analyzers busy {models:.0%}, decoders {decoders:.0%})"
    if shares["wait"] > 0.5:
        return "waiting: too few shards to keep every worker busy, or a slow disk"
    name = max(("decode", "analyze"), key=lambda key: shares[key])
    if name == "decode":
        return "decoding, on the CPUs"
    slowest = max(stats.analyze_s, key=lambda key: stats.analyze_s[key])
    return f"the models, on the CPUs (most of it {slowest})"
