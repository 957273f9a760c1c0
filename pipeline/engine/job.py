"""What every part of a run is told: the same small record in the driver and in every actor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.config import Config
from pipeline.config_trackers import Sam2Config
from pipeline.records import SCALED, Analysis
from pipeline.sources.plan import Grid

if TYPE_CHECKING:
    from pipeline.analyzers.base import Analyzer

FRAMES_SEMANTICS = 2
"""Version of what an index and a decode mean; raised when the same file would give other rows."""


@dataclass(frozen=True)
class Job:
    """One run: its configuration, what it writes, and where."""

    run_id: str
    config: Config
    output: str
    analyses: tuple[Analysis, ...]
    """The frames analysis first, then one per analyzer: what looks at pictures."""
    tracks: Analysis | None = None
    """What is made of detections once they have landed."""
    books: Mapping[str, int] = field(default_factory=dict)
    """Versions of tables when the run's books were read (see `ledger.said_by_others`)."""

    @property
    def grid(self) -> Grid:
        return grid_of(self.config)

    def takes_whole(self, due: tuple[str, ...]) -> bool:
        """Whether any of the analyses `due` is given whole pictures; without a frame cache all
        are."""
        if self.config.cache is None:
            return True
        _, *analyzers = self.analyses
        return any(one.fingerprint in due and not one.takes_scaled for one in analyzers)

    @property
    def looks_again(self) -> bool:
        """Whether tracks are made of pictures too, which are decoded a second time for it."""
        return self.tracks is not None and isinstance(self.config.tracker, Sam2Config)

    def by_fingerprint(self) -> dict[str, Analysis]:
        return {analysis.fingerprint: analysis for analysis in self.analyses}

    @property
    def wanted(self) -> tuple[Analysis, ...]:
        """All analyses of the run."""
        return self.analyses if self.tracks is None else (*self.analyses, self.tracks)


def grid_of(config: Config) -> Grid:
    return Grid(
        sampling=config.sampling.identity(),
        length=config.clip.length,
        step=config.clip.step,
        decoder=config.decode.backend,
    )


def analyses_of(config: Config) -> tuple[Analysis, ...]:
    """What a run with this configuration writes, each with all that changes its output.

    Raises ConfigError where a model cannot be found.
    """
    from pipeline.analyzers.registry import build_analyzers, takes_scaled
    from pipeline.sources.scaling import scaling_identity

    def identity_of(member: Analyzer) -> dict[str, object]:
        found = {**member.identity(), "frames": frames.fingerprint}
        if config.cache is not None and takes_scaled(config, member):
            found[SCALED] = scaling_identity(config.cache.height)
        return found

    identity = {**grid_of(config).identity(), "semantics": FRAMES_SEMANTICS}
    frames = Analysis("frames", "frames", identity)
    return (
        frames,
        *(
            Analysis(member.name, member.table, identity_of(member))
            for member in build_analyzers(config)
        ),
    )
