"""What planning asks of an output: which videos are known, which shards have landed or failed.

Loaded once at the start of a run and held in compact arrays (see `keys`), since a corpus may have
millions of videos. Indices of videos are read one by one, when asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from pipeline.ledger.catchup import find_lag
from pipeline.ledger.damage import damage_is_said
from pipeline.ledger.indexes import IndexTable
from pipeline.ledger.keys import KEY, SortedKeys, key_of, keys_of, order_of
from pipeline.ledger.outcomes import QUARANTINED
from pipeline.ledger.said_by_others import LOGS
from pipeline.ledger.scan import read_batches, read_table
from pipeline.ledger.schema import DATA_TABLES
from pipeline.ledger.store import Store
from pipeline.records import VideoIndex

if TYPE_CHECKING:
    from pipeline.ledger.files import Files


class Books:
    """The state of an output when it was opened. A folder without tables gives empty books.

    Raises DamagedOutput where tables or files of them are missing or broken.
    """

    def __init__(self, output: str) -> None:
        self._output = output
        store = Store(output)
        with damage_is_said(store):
            self._load(store)

    def _load(self, store: Store) -> None:
        names = ("videos", "shards", *reversed(DATA_TABLES), "failures", "indexes")
        # Opened in the reverse order of commits: what an earlier snapshot names, later ones have.
        snapshots = {name: store.open(name) for name in names if store.exists(name)}
        self.versions = {
            name: snapshots[name].version() if name in snapshots else -1
            for name in (*DATA_TABLES, *LOGS)
        }
        """Of the tables that the runs of others add to meanwhile."""
        self._videos = CurrentVideos(store, snapshots.get("videos"))
        self._landed = _landed_of(store, snapshots)
        self._failed = _failed_of(store, snapshots.get("failures"))
        self._lacking = _lacking_of(store, snapshots.get("failures"))
        self._quarantined = _quarantined_of(store, snapshots.get("failures"))
        self._indexes = IndexTable(store, snapshots.get("indexes"))

    def reopened(self) -> Books:
        """The books as they are now."""
        return Books(self._output)

    def known(self, uri: str) -> Known | None:
        """The latest outcome of `uri`, None where it has none."""
        return self.known_many([uri])[0]

    def known_many(self, uris: Sequence[str]) -> list[Known | None]:
        """The same of many: a small part of the time for each."""
        return self._videos.of(uris)

    def videos_done(self, video_ids: Sequence[str], fingerprints: Sequence[str]) -> np.ndarray:
        """bool (n,): for which videos every shard has landed in all of the analyses.

        True only where the shards say so; of the others `video_done` knows more.
        """
        keys = keys_of(video_ids)
        done = np.ones(len(keys), bool)
        for fingerprint in fingerprints:
            shards = self._landed.get(fingerprint)
            done &= shards.complete_many(keys) if shards is not None else False
        return done

    def video_done(self, video_id: str, fingerprint: str) -> bool:
        """Whether every shard of the video has landed in the analysis."""
        shards = self._landed.get(fingerprint)
        if shards is not None and shards.complete(video_id):
            return True
        # A video without a single frame has no shards, and nothing left to do.
        return self._indexes.frame_count(video_id) == 0

    def landed(self, video_id: str, fingerprint: str) -> set[int]:
        """Shard numbers of the video that have landed in the analysis."""
        shards = self._landed.get(fingerprint)
        return shards.of(video_id) if shards is not None else set()

    def failed(self, video_id: str, fingerprint: str) -> set[int]:
        """Shard numbers that were given up and have not landed since."""
        shards = self._failed.get(fingerprint)
        given_up = shards.of(video_id) if shards is not None else set()
        return given_up - self.landed(video_id, fingerprint) if given_up else given_up

    def lacks_frames(self, video_id: str, frames: str) -> bool:
        """Whether frames of the video are marked as failed in the frames analysis `frames`."""
        found = self._lacking.span(key_of(video_id))
        return found.stop > found.start or bool(self.quarantined(video_id, frames))

    def quarantined(self, video_id: str, frames: str) -> set[tuple[int, int]]:
        """First and last frame (inclusive) of the clips that were given up when the frames
        analysis `frames` landed."""
        return self._quarantined.get((video_id, frames), set())

    def any_quarantined(self, frames: str) -> bool:
        """Whether any clip was, in any video."""
        return any(analysis == frames for _, analysis in self._quarantined)

    def index(self, video_id: str) -> VideoIndex | None:
        """The video's index as it was committed, None where there is none."""
        return self._indexes.read(video_id)


class Known(NamedTuple):
    """The latest outcome of a uri."""

    stamp: str
    video_id: str | None
    """None where the file could not be indexed."""
    status: str


class CurrentVideos:
    """The latest row of each uri: stamp, video_id and status, about 130 bytes each."""

    def __init__(self, store: Store, snapshot: DeltaTable | None) -> None:
        columns = ("stamp", "video_id", "status")
        keys, times = [np.empty(0, KEY)], []
        rows: list[pa.RecordBatch] = []
        if snapshot is not None:
            dataset = store.files("videos", snapshot).having()
            for batch in read_batches(dataset, ["uri", *columns, "recorded_at"]):
                keys.append(keys_of(batch.column("uri")))
                times.append(batch.column("recorded_at"))
                rows.append(batch.select(columns))
        every = np.concatenate(keys)
        newest = latest_rows(every, pa.chunked_array(times, pa.timestamp("us", "UTC")))
        self._keys = SortedKeys(every[newest])
        self._newest = newest
        schema = pa.schema([(name, pa.string()) for name in columns])
        self._rows = pa.Table.from_batches([b.cast(schema) for b in rows], schema).combine_chunks()

    def of(self, uris: Sequence[str]) -> list[Known | None]:
        """The latest outcome of each uri, None where it has none."""
        at = self._keys.find(keys_of(uris))
        found: list[Known | None] = [None] * len(uris)
        there = np.flatnonzero(at >= 0)
        rows = self._rows.take(pa.array(self._newest[at[there]]))
        columns = (column.to_pylist() for column in rows.columns)
        for place, values in zip(there.tolist(), zip(*columns, strict=True), strict=True):
            found[place] = Known(*values)
        return found

    def counts(self) -> dict[str, int]:
        """Videos by status."""
        states = self._rows.column("status").take(pa.array(self._newest)).value_counts()
        return {row["values"]: row["counts"] for row in states.to_pylist()}


def latest_rows(keys: np.ndarray, recorded_at: pa.ChunkedArray) -> np.ndarray:
    """Row numbers of the latest row of each key, in the order of the keys."""
    times = recorded_at.cast(pa.int64()).to_numpy()
    order = order_of(keys, times)
    ordered = keys[order]
    last = np.append(ordered[1:] != ordered[:-1], [True]) if len(ordered) else np.empty(0, bool)
    return order[last]


def superseded_in(videos: Files) -> list[str]:
    """Contents (video ids) that some file once had and that no file has now."""
    rows = read_table(videos.having(), ["uri", "video_id", "recorded_at"])
    newest = latest_rows(keys_of(rows.column("uri")), rows.column("recorded_at"))
    if len(newest) == len(rows):
        return []
    ids = rows.column("video_id")
    now = ids.take(pa.array(newest)).unique()
    return ids.filter(pc.invert(pc.is_in(ids, now))).drop_null().unique().to_pylist()


class ShardSets:
    """Per video a set of shard numbers, and whether they are all: 21 bytes a shard."""

    def __init__(self, keys: np.ndarray, index: np.ndarray, count: np.ndarray) -> None:
        order = order_of(keys, index)
        keys, index, count = keys[order], index[order], count[order]
        once = np.append([True], (keys[1:] != keys[:-1]) | (index[1:] != index[:-1]))[: len(keys)]
        keys, count = keys[once], count[once]
        self._keys = SortedKeys(keys)
        self._index = index[once]
        starts = self._keys.starts()
        lengths = np.diff(starts, append=len(keys))
        self._whole = np.repeat(lengths == count[starts], lengths)
        self.videos = len(starts)
        """Videos of which any shard is here."""

    def of(self, video_id: str) -> set[int]:
        return set(self._index[self._keys.span(key_of(video_id))].tolist())

    def complete(self, video_id: str) -> bool:
        found = self._keys.span(key_of(video_id))
        return found.stop > found.start and bool(self._whole[found.start])

    def complete_many(self, keys: np.ndarray) -> np.ndarray:
        """bool (n,): `complete` of each KEY."""
        at = self._keys.find(keys)
        there = at >= 0
        there[there] = self._whole[at[there]]
        return there


def read_landed(store: Store, fingerprints: Iterable[str] | None = None) -> dict[str, ShardSets]:
    """What has landed per analysis; what `shards` lacks after a crash included."""
    names = ("shards", *DATA_TABLES)
    return _landed_of(
        store, {name: store.open(name) for name in names if store.exists(name)}, fingerprints
    )


def _landed_of(
    store: Store, snapshots: dict[str, DeltaTable], fingerprints: Iterable[str] | None = None
) -> dict[str, ShardSets]:
    if not {"shards", *DATA_TABLES} <= set(snapshots):
        return {}
    wanted = None if fingerprints is None else pc.field("analysis").isin(list(fingerprints))
    columns = ["analysis", "video_id", "shard_index", "shard_count"]
    dataset = store.files("shards", snapshots["shards"]).having()
    batches = read_batches(dataset, columns, wanted)
    lag = find_lag(store, snapshots).rows.select(columns).to_batches()
    return _sets((*batches, *lag))


def _failed_of(store: Store, snapshot: DeltaTable | None) -> dict[str, ShardSets]:
    if snapshot is None:
        return {}
    shards = pc.field("shard_index").is_valid() & pc.field("analysis").is_valid()
    shards &= pc.field("video_id").is_valid()
    columns = ["analysis", "video_id", "shard_index"]
    dataset = store.dataset("failures", snapshot)
    return _sets(read_batches(dataset, columns, shards))


def _lacking_of(store: Store, snapshot: DeltaTable | None) -> SortedKeys:
    """The videos with frames that no decoder gives, in whatever analysis."""
    if snapshot is None:
        return SortedKeys(np.empty(0, KEY))
    frames = pc.field("stage").isin(["decode", "analyze"]) & pc.field("shard_index").is_null()
    frames &= pc.field("first_frame").is_valid() & pc.field("video_id").is_valid()
    frames &= pc.field("analysis").is_null()
    batches = read_batches(store.dataset("failures", snapshot), ["video_id"], frames)
    keys = np.concatenate([np.empty(0, KEY), *(keys_of(b.column("video_id")) for b in batches)])
    return SortedKeys(keys[order_of(keys)])


def _quarantined_of(
    store: Store, snapshot: DeltaTable | None
) -> dict[tuple[str, str], set[tuple[int, int]]]:
    """By video and frames analysis; such clips are few."""
    found: dict[tuple[str, str], set[tuple[int, int]]] = {}
    if snapshot is None:
        return found
    given_up = pc.starts_with(pc.field("reason"), QUARANTINED) & pc.field("analysis").is_valid()
    columns = ["video_id", "analysis", "first_frame", "last_frame"]
    for row in read_table(store.dataset("failures", snapshot), columns, given_up).to_pylist():
        frames = row["first_frame"], row["last_frame"]
        found.setdefault((row["video_id"], row["analysis"]), set()).add(frames)
    return found


def _sets(batches: Iterable[pa.RecordBatch]) -> dict[str, ShardSets]:
    """One ShardSets per analysis, out of batches that are turned into numbers one by one."""
    parts: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    for batch in batches:
        keys = keys_of(batch.column("video_id"))
        index = batch.column("shard_index").to_numpy()
        named = "shard_count" in batch.schema.names
        count = batch.column("shard_count").to_numpy() if named else np.zeros(len(batch), np.int32)
        analysis = batch.column("analysis").dictionary_encode()
        codes = analysis.indices.to_numpy()
        for code, fingerprint in enumerate(analysis.dictionary.to_pylist()):
            mine = codes == code
            parts.setdefault(fingerprint, []).append((keys[mine], index[mine], count[mine]))
    return {
        fingerprint: ShardSets(*(np.concatenate(column) for column in zip(*found, strict=True)))
        for fingerprint, found in parts.items()
    }
