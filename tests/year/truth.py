"""What must be in the tables, may be, and may go: kept apart from how the tables come about.

A *pair* is a content and an analysis of it (their ids): what is to be worked once. Videos are so
small that each is one shard.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.year.corpus import Version

Pair = tuple[str, str]
NEVER = 10**9


@dataclass
class _Times:
    """On which days something was as it is named, by runs of which some have not ended."""

    last: int = -1
    """The last day on which any run saw it."""
    certain: bool = False
    """A run has ended that saw it."""
    replaced: int = NEVER
    """The first day after that on which any run saw another in its place."""
    replaced_surely: int = NEVER
    """The same of runs that have ended."""

    def seen(self, day: int, ended: bool) -> None:
        self.last, self.certain = day, self.certain or ended
        self.replaced = self.replaced_surely = NEVER

    def gone(self, day: int, ended: bool) -> None:
        self.replaced = min(self.replaced, day)
        if ended:
            self.replaced_surely = min(self.replaced_surely, day)


@dataclass
class Truth:
    """Follows a schedule from day to day."""

    versions: dict[str, Version] = field(default_factory=dict)
    """Every content that was ever here, by video_id."""
    strides: dict[str, int] = field(default_factory=dict)
    """By fingerprint, of every analysis that was ever wanted."""
    names: dict[str, str] = field(default_factory=dict)
    landed: set[Pair] = field(default_factory=set)
    """What the tables held when they were last looked at."""
    ever: set[Pair] = field(default_factory=set)
    """What they have held at any time."""
    offered: set[Pair] = field(default_factory=set)
    """What runs could have landed since then."""
    _analyses: dict[str, _Times] = field(default_factory=dict)
    _files: dict[tuple[str, str], _Times] = field(default_factory=dict)
    """By path and content."""
    _unread: dict[str, bool] = field(default_factory=dict)
    """Paths of files that are no videos now, whose contents may come back; whether a run has ended
    that saw it."""

    def due(self, contents: dict[str, Version], wanted: Iterable[str]) -> set[Pair]:
        """Pairs that a run has to land."""
        every = {(video_id, fingerprint) for video_id in contents for fingerprint in wanted}
        return every - self.landed

    def frames(self, pairs: Iterable[Pair], name: str | None = None) -> int:
        """Sampled frames of pairs, of the analyzer `name` or of all; of each content once where
        several analyses of it are among them and `name` is None."""
        if name is not None:
            mine = {pair for pair in pairs if self.names[pair[1]] == name}
            return sum(self.versions[v].sampled(self.strides[f]) for v, f in mine)
        once = {(video_id, self.strides[fingerprint]) for video_id, fingerprint in pairs}
        return sum(self.versions[video_id].sampled(stride) for video_id, stride in once)

    # -- what may go ------------------------------------------------------------------

    def saw(
        self, day: int, files: dict[str, Version], wanted: dict[str, str], stride: int, ended: bool
    ) -> None:
        """A day's runs wanted these analyses (fingerprints by name) of these files."""
        for name, fingerprint in wanted.items():
            self.names[fingerprint], self.strides[fingerprint] = name, stride
            for other, times in self._analyses.items():
                if self.names[other] == name and other != fingerprint:
                    times.gone(day, ended)
            self._analyses.setdefault(fingerprint, _Times()).seen(day, ended)
        for path, version in files.items():
            if not version.frames:
                self._unread[path] = ended or self._unread.get(path, False)
                continue
            self._unread.pop(path, None)
            for (other, before), times in self._files.items():
                if other == path and before != version.video_id:
                    times.gone(day, ended)
            self._files.setdefault((path, version.video_id), _Times()).seen(day, ended)

    def may_go(self, pair: Pair, cutoff: int) -> bool:
        """Whether a gc that keeps what was superseded since the day `cutoff` may remove it."""
        video_id, fingerprint = pair
        replaced = [
            NEVER if self._unread.get(path) else times.replaced
            for (path, content), times in self._files.items()
            if content == video_id and times.certain
        ] or [0]
        return self._analyses[fingerprint].replaced < cutoff or max(replaced) < cutoff

    def must_go(self, pair: Pair, cutoff: int) -> bool:
        """Whether it has to."""
        video_id, fingerprint = pair
        replaced = [
            NEVER if path in self._unread else times.replaced_surely
            for (path, content), times in self._files.items()
            if content == video_id
        ]
        return self._analyses[fingerprint].replaced_surely < cutoff or max(replaced) < cutoff
