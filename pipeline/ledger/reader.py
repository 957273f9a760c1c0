"""Reading an output: tables as Arrow, one frame with all that is known of it, current by default.

Current means: of each analyzer name the newest analysis, and of each uri the newest content. A
run may be writing meanwhile; every call looks at what has landed by then.
"""

from __future__ import annotations

import datetime
import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable

from pipeline.errors import UsageError
from pipeline.ledger.analyses import RecordedAnalysis, analyses_in, newest_analyses
from pipeline.ledger.books import latest_rows
from pipeline.ledger.files import Files
from pipeline.ledger.history import open_store
from pipeline.ledger.indexes import read_index
from pipeline.ledger.keys import keys_of
from pipeline.ledger.scan import read_batches, read_few, read_table
from pipeline.ledger.schema import DATA_TABLES, TABLES
from pipeline.ledger.store import Store
from pipeline.records import VideoIndex

_BY_ANALYSIS = (*DATA_TABLES, "shards")
_BY_CONTENT = (*_BY_ANALYSIS, "indexes")


@dataclass(frozen=True)
class Frame:
    """One sampled frame and what the newest analyses say of it."""

    video_id: str
    frame_index: int
    row: dict[str, Any]
    """Its row of `frames`."""
    detections: pa.Table = field(repr=False)
    """Its rows of `detections`, by detection_index."""
    embedding: np.ndarray | None = field(repr=False)
    """float32 (dimensions,), L2-normalised; None where there is none."""


class Ledger:
    """An output, opened for reading. Raises UsageError where `output` holds none.

    With `as_of`, a time (ISO 8601 where it is text, UTC where it names no zone) or the id of a
    run (for its end), everything is as it was then: rows, newest analyses, newest contents. Raises
    UsageError where the history that is kept does not reach back so far.
    """

    def __init__(
        self,
        output: str | os.PathLike[str],
        as_of: str | datetime.datetime | None = None,
    ) -> None:
        self.output = os.fspath(output)
        self._store = Store(self.output)
        if not self._store.is_remote and not os.path.isdir(self.output):
            raise UsageError(f"{self.output} is no frameledger output: no such folder")
        if not self._store.exists("videos"):
            raise UsageError(
                f"{self.output} is no frameledger output: it has no table videos; "
                "name the folder that a run was given with --output"
            )
        self._store = open_store(self.output, as_of)
        self._open: dict[str, DeltaTable] = {}
        self._listed: dict[str, tuple[int, Files]] = {}
        self._old: tuple[int, list[str]] | None = None

    # -- tables -----------------------------------------------------------------------

    def table(
        self,
        name: str,
        columns: Sequence[str] | None = None,
        filter: pc.Expression | None = None,
        analysis: str | None = None,
        *,
        current: bool = True,
    ) -> pa.Table:
        """Rows of a table.

        Args:
            name: `videos`, `indexes`, `frames`, `detections`, `embeddings`, `failures`, `shards`.
            columns: which; all where None.
            filter: a pyarrow expression; files and row groups that cannot match are not read.
            analysis: a fingerprint (or its beginning) instead of the newest analyses.
            current: False to also get superseded contents of files and, where `analysis` is not
                given, all analyses.

        Raises UsageError for an unknown table, column or analysis.
        """
        dataset, wanted, chosen = self._query(name, columns, filter, analysis, current)
        return read_table(dataset, chosen, wanted)

    def batches(
        self,
        name: str,
        columns: Sequence[str] | None = None,
        filter: pc.Expression | None = None,
        analysis: str | None = None,
        *,
        current: bool = True,
        batch_rows: int = 8192,
    ) -> Iterator[pa.RecordBatch]:
        """As `table`, streamed in bounded memory: a few row groups at a time, however many."""
        dataset, wanted, chosen = self._query(name, columns, filter, analysis, current)
        yield from read_batches(dataset, chosen, wanted, batch_rows)

    def dataset(self, name: str) -> ds.Dataset:
        """All rows of a table as it is now, as a pyarrow dataset."""
        if name not in TABLES:
            raise UsageError(f"{self.output}: no table {name}; there are {', '.join(TABLES)}")
        return self._files(name).all

    def fragments(self, name: str, analysis: str) -> list[ds.Fragment]:
        """The files with all rows of an analysis (its fingerprint), for a reader of its own."""
        dataset, wanted, _ = self._query(name, None, None, analysis, current=False)
        return list(dataset.get_fragments(filter=wanted))

    def _snapshot(self, name: str) -> DeltaTable:
        """The table as it is now."""
        snapshot = self._open.get(name)
        if snapshot is None:
            snapshot = self._open[name] = self._store.open(name)
        elif not self._store.is_past:
            snapshot.update_incremental()
        return snapshot

    def _files(self, name: str) -> Files:
        """The files of the table as it is now."""
        snapshot = self._snapshot(name)
        version, files = self._listed.get(name, (-1, None))
        if files is None or version != snapshot.version():
            files = self._store.files(name, snapshot)
            self._listed[name] = snapshot.version(), files
        return files

    def videos(self) -> pa.Table:
        """The current row of each uri, sorted by uri."""
        rows = read_table(self.dataset("videos"))
        newest = latest_rows(keys_of(rows.column("uri")), rows.column("recorded_at"))
        return rows.take(pa.array(newest)).sort_by("uri")

    def analyses(self) -> list[RecordedAnalysis]:
        """Every analysis of the output, the oldest first."""
        return analyses_in(self._snapshot(table) for table in DATA_TABLES)

    def _query(
        self,
        name: str,
        columns: Sequence[str] | None,
        wanted: pc.Expression | None,
        analysis: str | None,
        current: bool,
    ) -> tuple[ds.Dataset, pc.Expression | None, list[str] | None]:
        dataset = self.dataset(name)
        strangers = [column for column in columns or () if column not in dataset.schema.names]
        if strangers:
            raise UsageError(
                f"{self.output}: table {name} has no column {', '.join(strangers)}; "
                f"it has {', '.join(dataset.schema.names)}"
            )
        parts = [] if wanted is None else [wanted]
        parts += self._analysis_filter(name, analysis, current)
        if current and name in _BY_CONTENT and (old := self.superseded()):
            parts.append(~pc.field("video_id").isin(old))
        whole = None
        for part in parts:
            whole = part if whole is None else whole & part
        return dataset, whole, list(columns) if columns is not None else None

    def _analysis_filter(
        self, name: str, analysis: str | None, current: bool
    ) -> list[pc.Expression]:
        if name not in _BY_ANALYSIS:
            return []
        known = [a for a in self.analyses() if name in ("shards", a.table)]
        if analysis is not None:
            return [pc.field("analysis") == self._fingerprint(analysis, known)]
        newest = {a.fingerprint for a in newest_analyses(known).values()}
        if not current or len(newest) == len(known):
            return []
        return [pc.field("analysis").isin(sorted(newest))]

    def _fingerprint(self, asked: str, known: list[RecordedAnalysis]) -> str:
        found = [a.fingerprint for a in known if asked and a.fingerprint.startswith(asked)]
        if len(found) != 1:
            what = "is not one analysis but several" if found else "is no analysis here"
            there = ", ".join(f"{a.fingerprint} ({a.name})" for a in known) or "none"
            raise UsageError(f"{self.output}: {asked} {what}; there are {there}")
        return found[0]

    def superseded(self) -> list[str]:
        """Ids of contents that some file once had and that no file has now."""
        files = self._files("videos")
        version = self._listed["videos"][0]
        if self._old is None or self._old[0] != version:
            self._old = version, _superseded_in(files)
        return self._old[1]

    # -- one video, one frame ---------------------------------------------------------

    def index(self, video: str) -> VideoIndex:
        """The index of a video, by uri or video_id. Raises UsageError where there is none."""
        video_id = self._video_id(video)
        index = read_index(self._files("indexes"), video_id)
        if index is None:
            raise UsageError(f"{self.output}: video {video}: has no index yet")
        return index

    def frame(self, video: str, index: int, analysis: str | None = None) -> Frame:
        """A sampled frame with its detections and its embedding.

        Args:
            video: uri or video_id.
            index: frame index over the whole video, from 0.
            analysis: fingerprint of a detector's or embedder's analysis other than the newest.

        Raises UsageError where the video is unknown or the frame was not sampled.
        """
        if isinstance(index, bool) or not isinstance(index, (int, np.integer)):
            raise UsageError(f"frame index {index!r}: a whole number is expected")
        video_id = self._video_id(video)
        fingerprints = self._chosen(analysis)
        rows = self._rows_of(video_id, index, "frames", fingerprints["frames"])
        if not rows.num_rows:
            raise UsageError(self._no_frame(video, video_id, index, fingerprints["frames"]))
        boxes = self._rows_of(video_id, index, "detections", fingerprints["detections"])
        vectors = self._rows_of(video_id, index, "embeddings", fingerprints["embeddings"])
        embedding = None
        if vectors.num_rows:
            embedding = vectors.column("embedding")[0].values.to_numpy().astype(np.float32)
        return Frame(
            video_id=video_id,
            frame_index=index,
            row=rows.to_pylist()[0],
            detections=boxes.sort_by("detection_index"),
            embedding=embedding,
        )

    def frame_filter(self, video_id: str, index: int, fingerprints: list[str]) -> pc.Expression:
        """What finds one frame: partition, then min and max of files, then of row groups."""
        return (
            # Typed, for a table that no analysis writes to: an empty list has no type.
            pc.field("analysis").isin(pa.array(fingerprints, pa.string()))
            & (pc.field("video_id") == video_id)
            & (pc.field("frame_index") == index)
        )

    def _rows_of(self, video_id: str, index: int, table: str, prints: list[str]) -> pa.Table:
        few = self._files(table).having(video_id=video_id, frame_index=index)
        return read_few(few, self.frame_filter(video_id, index, prints))

    def _chosen(self, analysis: str | None) -> dict[str, list[str]]:
        """Fingerprints to read per table: the newest, with `analysis` in place of its own name."""
        known = self.analyses()
        chosen = newest_analyses(known)
        if analysis is not None:
            fingerprint = self._fingerprint(analysis, known)
            asked = next(a for a in known if a.fingerprint == fingerprint)
            chosen[asked.name] = asked
            # An analysis' rows belong to the frames that it sampled.
            linked = [a for a in known if a.fingerprint == asked.identity.get("frames")]
            chosen |= {a.name: a for a in linked}
        by_table: dict[str, list[str]] = {"frames": [], "detections": [], "embeddings": []}
        for one in chosen.values():
            by_table[one.table].append(one.fingerprint)
        return by_table

    def _video_id(self, video: str) -> str:
        videos = self._files("videos")
        by_uri = read_table(videos.having(uri=video), None, pc.field("uri") == video)
        if by_uri.num_rows:
            latest = by_uri.sort_by("recorded_at").to_pylist()[-1]
            if latest["video_id"] is None:
                raise UsageError(
                    f"{self.output}: video {video} could not be read: {latest['reason']}"
                )
            return latest["video_id"]
        named = pc.field("video_id") == video
        by_id = read_table(videos.having(video_id=video), ["video_id"], named)
        if by_id.num_rows or self._in_work(video):
            return video
        raise UsageError(self._no_video(video))

    def _in_work(self, video_id: str) -> bool:
        """Whether shards of a video have landed that no row of `videos` names yet."""
        wanted = pc.field("video_id") == video_id
        few = self._files("shards").having(video_id=video_id)
        return read_table(few, ["shard_id"], wanted).num_rows > 0

    def _no_video(self, video: str) -> str:
        uris = read_table(self.dataset("videos"), ["uri"]).column("uri").unique()
        names = uris.slice(0, 20_000).to_pylist()
        base = {os.path.basename(name): name for name in names}
        near = difflib.get_close_matches(video, names, n=3, cutoff=0.6)
        near += [base[b] for b in difflib.get_close_matches(os.path.basename(video), base, n=3)]
        if near:
            hint = f"did you mean {' or '.join(dict.fromkeys(near))}?"
        else:
            hint = f"it has {len(uris):,} videos" + (f", such as {names[0]}" if names else "")
        return f"{self.output}: no video {video}; {hint}"

    def _no_frame(self, video: str, video_id: str, index: int, prints: list[str]) -> str:
        chosen = pa.array(prints, pa.string())
        wanted = pc.field("analysis").isin(chosen) & (pc.field("video_id") == video_id)
        few = self._files("frames").having(video_id=video_id)
        rows = read_table(few, ["frame_index"], wanted)
        there = np.sort(rows.column("frame_index").to_numpy())
        if not len(there):
            return f"{self.output}: video {video} has no frames yet"
        nearest = there[np.argsort(np.abs(there - index), kind="stable")[:2]]
        return (
            f"{self.output}: video {video} has no frame {index}; nearest are "
            f"{' and '.join(str(int(n)) for n in np.sort(nearest))} "
            f"({len(there):,} frames from {int(there[0])} to {int(there[-1])})"
        )


def _superseded_in(videos: Files) -> list[str]:
    rows = read_table(videos.having(), ["uri", "video_id", "recorded_at"])
    newest = latest_rows(keys_of(rows.column("uri")), rows.column("recorded_at"))
    if len(newest) == len(rows):
        return []
    ids = rows.column("video_id")
    now = ids.take(pa.array(newest)).unique()
    return ids.filter(pc.invert(pc.is_in(ids, now))).drop_null().unique().to_pylist()
