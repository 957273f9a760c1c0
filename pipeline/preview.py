"""What a run would do, without doing it: `frameledger plan`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import UsageError, VideoError
from pipeline.records import NO_FILE, Failure, shard_id
from pipeline.resume import Corpus
from pipeline.runner import make_job, nothing_in, open_corpus
from pipeline.sources.plan import plan_video


@dataclass
class Preview:
    """Counts of a run that has not happened."""

    videos: dict[str, int] = field(default_factory=dict)
    """By state: new, changed, unfinished, stale, done, failed, unreadable (see `resume`)."""
    shards: int = 0
    clips: int = 0
    frames: int = 0
    analyses: dict[str, int] = field(default_factory=dict)
    """Frames that each analysis lacks, by analyzer name."""
    journaled: dict[str, int] = field(default_factory=dict)
    """Of the shards those that are whole in the journal of a run that died, by that run: the next
    run begins by committing them, and does not do them again."""
    quarantined: int = 0
    """Videos of which clips were given up, whose shards --retry-failed would do again; they are
    among the videos that are done, and not in the counts below."""
    frames_per_s: float | None = None
    """What an earlier run on this output made; None where there was none."""
    alike: bool = False
    """That run did the analyses that are due now."""
    problems: list[Failure] = field(default_factory=list)
    """Videos that a run would record as failed, the first ones."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Files of folders that look like videos and are not taken, by ending."""

    @property
    def seconds(self) -> float | None:
        """How long a run would take, without its start-up; None where there is no telling."""
        return self.frames / self.frames_per_s if self.frames_per_s else None

    def as_dict(self) -> dict[str, object]:
        return asdict(self) | {"seconds": self.seconds}


def plan(
    config: Config | str | Path,
    inputs: list[str] | tuple[str, ...],
    output: str,
    *,
    limit: int | None = None,
    retry_failed: bool = False,
) -> Preview:
    """Hold `inputs` against `output`; nothing is written.

    Videos that no run has indexed are indexed here (packets only), one after another, to count
    their frames. The same bytes under two names are counted once.
    """
    from pipeline.ledger.adopt import has_left, left_whole
    from pipeline.ledger.alive import live_runs
    from pipeline.ledger.runs import past_rate, read_runs
    from pipeline.sources.index import index_video

    job = make_job(config, output)
    # Before the books are read: what is committed in between is then not due any more.
    left = left_whole(job.output, live_runs(job.output)) if has_left(job.output) else {}
    corpus = open_corpus(job, inputs, retry_failed=retry_failed)
    preview = Preview()
    if retry_failed and (lost := corpus.quarantined(limit)):
        preview.quarantined = len(lost)
        corpus = open_corpus(job, inputs, retry_failed=True)
    names = {analysis.fingerprint: analysis.name for analysis in job.analyses}
    seen: set[bytes] = set()
    due = 0
    for candidate in corpus.candidates():
        work = candidate.due or candidate.failure is not None
        if work and limit is not None and due == limit:
            break
        due += work
        preview.videos[candidate.state] = preview.videos.get(candidate.state, 0) + 1
        if candidate.failure is not None:
            preview.problems.append(candidate.failure)
        if not candidate.due:
            continue
        source = candidate.source
        index = None
        if candidate.state in ("unfinished", "stale") and candidate.video_id is not None:
            index = corpus.books.index(candidate.video_id)
        if index is None:
            try:
                index = index_video(source, job.config.decode)
            except VideoError as error:
                failure = Failure(source.uri, error.stage, error.reason, stamp=source.stamp)
                preview.problems.append(failure)
                continue
        if (key := bytes.fromhex(index.video_id)) in seen:
            continue
        seen.add(key)
        for task in corpus.tasks(source, index):
            preview.shards += 1
            preview.clips += len(task.shard.clips)
            preview.frames += task.frame_count
            if job.tracks is not None:
                _add(preview, job.tracks.name, task.frame_count)
            number = task.shard.shard_index
            runs = [left.get(shard_id(name, index.video_id, number)) for name in task.analyses]
            if runs[0] is not None and None not in runs:
                preview.journaled[runs[0]] = preview.journaled.get(runs[0], 0) + 1
            for fingerprint in task.analyses:
                _add(preview, names[fingerprint], task.frame_count)
    _count_tracks(corpus, preview)
    if preview.frames:
        due_now = {print_ for print_, name in names.items() if preview.analyses.get(name)}
        preview.frames_per_s, preview.alike = past_rate(read_runs(job.output), due_now) or (
            None,
            False,
        )
    if not corpus.counts:
        raise UsageError(nothing_in(corpus))
    preview.left_out = dict(corpus.discovery.left_out)
    return preview


def _add(preview: Preview, name: str, frames: int) -> None:
    preview.analyses[name] = preview.analyses.get(name, 0) + frames


def _count_tracks(corpus: Corpus, preview: Preview) -> None:
    """Of videos that have nothing else due, the shards that lack their tracks."""
    tracks = corpus.job.tracks
    if tracks is None:
        return
    for video_id in (key.hex() for key in corpus.untracked):
        index = corpus.books.index(video_id)
        assert index is not None
        landed = corpus.books.landed(video_id, tracks.fingerprint)
        for task in plan_video(NO_FILE, index, corpus.job.grid):
            if task.shard.shard_index not in landed:
                _add(preview, tracks.name, task.frame_count)
