"""What of a corpus is still to be done: the inputs held against the books of the output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Literal

from pipeline.engine.job import Job
from pipeline.priority import Backlog, Priority
from pipeline.records import Failure, Quarantine, ShardTask, Source, VideoIndex
from pipeline.sources.discover import Discovery, discover, look_again
from pipeline.sources.plan import plan_video
from pipeline.tracks.analysis import bases_of

if TYPE_CHECKING:
    from pipeline.ledger.books import Books, Known
    from pipeline.ledger.news import News

_AT_ONCE = 1024
"""Videos that are looked up together: what each costs is then mostly its stat."""

State = Literal["new", "changed", "unfinished", "stale", "done", "failed", "unreadable"]


@dataclass(frozen=True)
class Candidate:
    """A discovered video with what the books say of it."""

    source: Source
    state: State
    """new: never seen. changed: its stamp is another. unfinished: some shards have landed.
    stale: none of an analysis' shards has landed yet (a new model). done. failed: what is left
    has failed before. unreadable: it cannot even be seen (`failure` says why)."""
    video_id: str | None = None
    failure: Failure | None = None
    partial: bool = False
    """Done as far as it can be: some of its frames cannot be decoded."""

    @property
    def due(self) -> bool:
        return self.state in ("new", "changed", "unfinished", "stale")


@dataclass
class Corpus:
    """The inputs of a run, streamed, each with its state."""

    job: Job
    inputs: tuple[str, ...]
    books: Books
    retry_failed: bool = False
    priority: Priority = "discovery"
    counts: dict[str, int] = field(default_factory=dict)
    """Videos by state, counted as they are streamed."""
    untracked: set[bytes] = field(default_factory=set)
    """Ids of videos without other work whose detections have all landed, and tracks have not."""
    tracks_failed: set[bytes] = field(default_factory=set)
    """Of such videos those whose tracks were given up, where that is not to be tried again."""
    discovery: Discovery = field(init=False)

    def __post_init__(self) -> None:
        self.discovery = Discovery(self.job.config.links)
        self._news = self._listen()
        self._reopened = False

    def candidates(self) -> Iterator[Candidate]:
        """Every video of the inputs once, with one stat each as it is found. With a priority,
        those that are due come behind all others, and are looked at again then."""
        if self.priority == "discovery":
            yield from self._discovered()
            return
        backlog = Backlog(self.priority)
        for candidate in self._discovered():
            if candidate.due:
                backlog.add(candidate.source, candidate.state)
            else:
                yield candidate
        for sources in backlog.in_order():
            # Hours may have gone by: what has changed meanwhile is taken as it is now.
            yield from self._judge_all(look_again(sources))

    def _listen(self) -> News:
        from pipeline.ledger.news import News
        from pipeline.ledger.store import Store

        return News(Store(self.job.output), self.job.run_id, self.books.versions)

    def _discovered(self) -> Iterator[Candidate]:
        """The same in the order of discovery, each counted."""
        found = _unique(discover(self.inputs, self.discovery))
        while batch := list(islice(found, _AT_ONCE)):
            for candidate in self._judge_all(batch):
                self.counts[candidate.state] = self.counts.get(candidate.state, 0) + 1
                yield candidate

    def reopen(self) -> None:
        """See what has landed since."""
        self.books = self.books.reopened()
        self._news = self._listen()
        self._reopened = True

    def as_it_is(self, candidate: Candidate) -> Candidate:
        """A candidate by the books as they are, which may have been read again since."""
        if not self._reopened or candidate.failure is not None:
            return candidate
        return next(self._judge_all([candidate.source]))

    def settled_by_others(self, source: Source, video_id: str) -> Candidate | None:
        """The source as the books have it now, where another run may have landed something of its
        video since it was found; None where none has."""
        if self._news.of(video_id):
            self.reopen()
        return next(self._judge_all([source])) if self._reopened else None

    def quarantined(self, limit: int | None = None) -> dict[str, set[tuple[int, int]]]:
        """Clips of the inputs that were given up, as first and last frame, by video_id.

        Args:
            limit: look no further than where a run would end that takes so many videos.
        """
        frames = self.job.analyses[0].fingerprint
        found: dict[str, set[tuple[int, int]]] = {}
        if not self.books.any_quarantined(frames):
            return found
        taken = 0
        for candidate in self.candidates():
            ranges: set[tuple[int, int]] = set()
            if candidate.video_id is not None and candidate.state != "changed":
                ranges = self.books.quarantined(candidate.video_id, frames)
            taken += candidate.due or candidate.failure is not None or bool(ranges)
            if limit is not None and taken > limit:
                break
            if ranges and candidate.video_id is not None:
                found[candidate.video_id] = ranges
        return found

    def _judge_all(self, batch: Sequence[Source | Failure]) -> Iterator[Candidate]:
        """What the books say of each; most are done, which is looked up for all of them at once."""
        known = self.books.known_many([item.uri for item in batch])
        ids = [entry.video_id or "" if entry is not None else "" for entry in known]
        done = self.books.videos_done(ids, [analysis.fingerprint for analysis in self.job.analyses])
        for item, entry, is_done in zip(batch, known, done.tolist(), strict=True):
            if isinstance(item, Failure):
                yield self._unseen(item, entry)
                continue
            candidate = self._judge(item, entry, is_done)
            if candidate.video_id is not None and not candidate.due:
                self._note_untracked(candidate.video_id)
            yield candidate

    def _note_untracked(self, video_id: str) -> None:
        tracks = self.job.tracks
        if tracks is None or self.books.video_done(video_id, tracks.fingerprint):
            return
        if all(self.books.video_done(video_id, base) for base in bases_of(tracks)):
            given_up = self.books.failed(video_id, tracks.fingerprint) and not self.retry_failed
            which = self.tracks_failed if given_up else self.untracked
            which.add(bytes.fromhex(video_id))

    def _unseen(self, failure: Failure, known: Known | None) -> Candidate:
        source = Source(failure.uri, "", 0)
        if known is not None and known.stamp == source.stamp and not self.retry_failed:
            return Candidate(source, "failed")
        return Candidate(source, "unreadable", failure=failure)

    def _judge(self, source: Source, known: Known | None, is_done: bool) -> Candidate:
        if known is None:
            return Candidate(source, "new")
        stamp, video_id, status = known
        if stamp != source.stamp:
            return Candidate(source, "changed", video_id)
        if video_id is None:
            return Candidate(source, "new" if self.retry_failed else "failed")
        # The status may be of a run with another sampling or clip length.
        lost = self.books.quarantined(video_id, self.job.analyses[0].fingerprint)
        done = Candidate(source, "done", video_id, partial=status == "partial" or bool(lost))
        if is_done:
            return done
        fingerprints = [analysis.fingerprint for analysis in self.job.analyses]
        undone = [f for f in fingerprints if not self.books.video_done(video_id, f)]
        if not undone:
            return done
        if not self.retry_failed and any(self.books.failed(video_id, f) for f in undone):
            # Few videos have failures; for those the plan itself tells whether any work is left.
            index = self.books.index(video_id)
            if index is not None and not self.tasks(source, index):
                return Candidate(source, "failed", video_id)
        begun = any(self.books.landed(video_id, f) for f in undone)
        return Candidate(source, "unfinished" if begun else "stale", video_id)

    def tasks(self, source: Source, index: VideoIndex) -> list[ShardTask]:
        """The video's shards that have not landed, each with the analyses it lacks.

        Shards that have failed before are left out unless `retry_failed`.
        """
        landed, failed = {}, {}
        for analysis in self.job.analyses:
            fingerprint = analysis.fingerprint
            landed[fingerprint] = self.books.landed(index.video_id, fingerprint)
            failed[fingerprint] = (
                set() if self.retry_failed else self.books.failed(index.video_id, fingerprint)
            )
        frames = self.job.analyses[0].fingerprint
        lost = self.books.quarantined(index.video_id, frames)
        tasks = []
        for task in plan_video(source, index, self.job.grid):
            number = task.shard.shard_index
            due = tuple(f for f in landed if number not in landed[f] and number not in failed[f])
            if not due:
                continue
            if lost and number in landed[frames]:
                # What is failed in the frames that have landed has no rows anywhere.
                task = replace(task, quarantined=_known(task, lost))
            tasks.append(replace(task, analyses=due))
        return tasks


def _known(task: ShardTask, lost: set[tuple[int, int]]) -> tuple[Quarantine, ...]:
    """The clips of this shard whose frames (first and last) are known to be lost."""
    reason = "its frames are marked as failed since an earlier run"
    return tuple(
        Quarantine(clip.clip_index, "analyze", reason, 0, known=True)
        for clip in task.shard.clips
        if task.own_range(clip) in lost
    )


def _unique(found: Iterable[Source | Failure]) -> Iterator[Source | Failure]:
    """Each uri once, though inputs may overlap. 16 bytes a name, not the names, are held."""
    import hashlib

    seen: set[bytes] = set()
    for item in found:
        key = hashlib.blake2b(item.uri.encode("utf-8", "surrogateescape"), digest_size=16).digest()
        if key not in seen:
            seen.add(key)
            yield item
