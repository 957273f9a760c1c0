"""Shards with quarantined clips, taken back so that they can be tried again as a whole.

A shard that has landed is never written a second time; here its rows go first, and `shards`, by
which it is known to have landed, goes last. What is to go is written down before anything does:

    OUTPUT/_reopen.json    while it is there no other run begins; where this one was cut short, the
                           next goes on with it
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import CommitFailedError

from pipeline.errors import RunAborted, UsageError
from pipeline.ledger.alive import live_runs
from pipeline.ledger.analyses import newest_analyses, read_analyses
from pipeline.ledger.catchup import catch_up, covering
from pipeline.ledger.rewrite import change_rows
from pipeline.ledger.scan import read_table
from pipeline.ledger.schema import DATA_TABLES
from pipeline.ledger.store import Store

FILE = "_reopen.json"
_FRAME_BITS = 40


@dataclass(frozen=True)
class Reopening:
    """What is to go."""

    analyses: tuple[str, ...]
    """A frames analysis and all that look at its frames."""
    shards: tuple[tuple[str, int, int], ...]
    """(video_id, first frame, last frame), inclusive."""


def find_reopening(
    store: Store, frames: str, lost: dict[str, set[tuple[int, int]]]
) -> Reopening | None:
    """The shards that hold the `lost` ranges of frames, by video_id; None where there are none.

    Args:
        frames: fingerprint of the frames analysis.
    """
    if not lost:
        return None
    mine = (pc.field("analysis") == frames) & pc.field("video_id").isin(list(lost))
    columns = ["video_id", "first_frame", "last_frame"]
    rows = read_table(store.dataset("shards", store.open("shards")), columns, mine).to_pylist()
    shards = {
        (row["video_id"], row["first_frame"], row["last_frame"])
        for row in rows
        if any(row["first_frame"] <= a <= row["last_frame"] for a, _ in lost[row["video_id"]])
    }
    linked = [a.fingerprint for a in read_analyses(store) if a.identity.get("frames") == frames]
    return Reopening((frames, *linked), tuple(sorted(shards))) if shards else None


def not_redone(store: Store, what: Reopening, wanted: Iterable[str]) -> list[str]:
    """Names of analyzers whose rows would go and not come back: readers see their analyses, and a
    run that wants `wanted` does not do them."""
    newest = newest_analyses(read_analyses(store)).values()
    gone = set(what.analyses) - set(wanted)
    return sorted(a.name for a in newest if a.fingerprint in gone)


def reopen(store: Store, what: Reopening, run_id: str) -> bool:
    """Take the shards back. False, and nothing done, where another run is going on: it may be
    writing what would be taken. `run_id` is this one's, whose lease is open."""
    folder = store.folder
    text = json.dumps({"analyses": what.analyses, "shards": what.shards})
    try:
        folder.write(FILE, text.encode())
    except OSError as error:
        what_failed = f"output {store.root}: cannot write {FILE}"
        raise RunAborted(f"{what_failed}: {error.strerror or error}") from error
    # Asked once the file is there: a run that begins later sees it, and one that began is seen.
    if live_runs(store.root) - {run_id}:
        folder.remove([FILE])
        return False
    _take_back(store, what)
    folder.remove([FILE])
    return True


def finish_reopening(store: Store, run_id: str) -> None:
    """Go on where a run was cut short, if one was.

    Raises RunAborted where another run is going on, which may be the one that is at it, and
    UsageError where what is written down cannot be read.
    """
    try:
        said = json.loads(store.folder.read(FILE))
    except FileNotFoundError:
        return
    except ValueError:
        raise UsageError(
            f"output {store.root}: {FILE} is broken; it says which shards are being taken back. "
            "Bring it back from a copy, or remove it and look at `frameledger verify`"
        ) from None
    others = sorted(live_runs(store.root) - {run_id})
    if others:
        raise RunAborted(
            f"output {store.root}: quarantined clips are being taken back while run "
            f"{others[0]} is going on; run this again when it has ended"
        )
    shards = tuple((video, first, last) for video, first, last in said["shards"])
    _take_back(store, Reopening(tuple(said["analyses"]), shards))
    store.folder.remove([FILE])


def _take_back(store: Store, what: Reopening) -> None:
    catch_up(store)
    ids = pc.field("video_id").isin([video for video, _, _ in what.shards])
    mine = ids & pc.field("analysis").isin(list(what.analyses))
    ranges = _Ranges(what)
    # A track goes through all of its video: with any shard of that all of them go.
    tracks = [a.fingerprint for a in read_analyses(store) if a.table == "tracks"]

    def gone(rows: pa.Table, column: str) -> np.ndarray:
        of_tracks = pc.is_in(rows.column("analysis"), pa.array(tracks, pa.string()))
        return ranges.hold(rows, column) | of_tracks.to_numpy()

    for table in reversed(DATA_TABLES):
        _drop(store, table, mine, lambda rows: gone(rows, "frame_index"))
    # Of frames, not of whole shards; of these analyses, or of the frames for all of them.
    lost = pc.field("shard_index").is_null() & pc.field("stage").isin(["decode", "analyze"])
    lost &= pc.field("analysis").isin(list(what.analyses)) | pc.field("analysis").is_null()
    _drop(store, "failures", ids & lost, lambda rows: ranges.hold(rows, "first_frame"))
    # Without them the videos are in work, as they are until the next run says how they ended.
    _drop(store, "videos", ids, lambda rows: np.ones(len(rows), bool))
    covers = covering(store)
    _drop(store, "shards", mine, lambda rows: gone(rows, "first_frame"), covers)


class _Ranges:
    """The frames of many shards, found by two searches however many there are."""

    def __init__(self, what: Reopening) -> None:
        self._ids = pa.array(sorted({video for video, _, _ in what.shards}))
        number = {video: at for at, video in enumerate(self._ids.to_pylist())}
        keys = [(number[video] << _FRAME_BITS) + first for video, first, _ in what.shards]
        order = np.argsort(np.array(keys, np.int64))
        self._first = np.array(keys, np.int64)[order]
        lengths = np.array([last - first for _, first, last in what.shards], np.int64)
        self._last = self._first + lengths[order]

    def hold(self, rows: pa.Table, column: str) -> np.ndarray:
        """bool per row: whether its frame, by `column`, lies in one of the shards."""
        video = pc.fill_null(pc.index_in(rows.column("video_id"), self._ids), -1).to_numpy()
        frame = pc.fill_null(rows.column(column), -1).to_numpy()
        keys = (video.astype(np.int64) << _FRAME_BITS) + frame
        at = np.searchsorted(self._first, keys, "right") - 1
        return (video >= 0) & (frame >= 0) & (at >= 0) & (keys <= self._last[np.maximum(at, 0)])


def _drop(
    store: Store,
    table: str,
    among: pc.Expression,
    gone: Callable[[pa.Table], np.ndarray],
    note: Callable[[], object] | None = None,
) -> None:
    """Remove the rows that match `among` and are `gone`."""

    def rest(rows: pa.Table) -> pa.Table:
        at = np.arange(len(rows))
        numbered = rows.append_column("at", pa.array(at)).filter(among)
        places = numbered.column("at").to_numpy()[gone(numbered)]
        keep = np.ones(len(rows), bool)
        keep[places] = False
        return rows.filter(pa.array(keep))

    try:
        change_rows(store, table, among, rest, note)
    except CommitFailedError as error:
        what = f"output {store.root}: table {table} is changed by others all the time"
        raise RunAborted(f"{what}; run this again") from error
