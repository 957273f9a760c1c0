"""Reading an output: tables as Arrow, one frame with all that is known of it, current by default.

Current means: of each analyzer name the newest analysis, and of each uri the newest content. A
run may be writing meanwhile; every call looks at what has landed by then.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipeline.errors import UsageError
from pipeline.ledger.analyses import (
    RecordedAnalysis,
    analyses_in,
    chosen_analyses,
    find_analysis,
    newest_analyses,
)
from pipeline.ledger.books import latest_rows, superseded_in
from pipeline.ledger.files import Files
from pipeline.ledger.frame import Frame, FrameBatch
from pipeline.ledger.hints import no_frame
from pipeline.ledger.history import open_store
from pipeline.ledger.indexes import read_index
from pipeline.ledger.keys import keys_of
from pipeline.ledger.scan import View, read_table
from pipeline.ledger.schema import DATA_TABLES, TABLES
from pipeline.ledger.snapshots import Snapshots
from pipeline.ledger.store import Store
from pipeline.ledger.video_names import VideoNames
from pipeline.records import VideoIndex

if TYPE_CHECKING:
    import pandas
    import polars

    from pipeline.results.frames_dataset import FramesDataset
    from pipeline.results.where import Where

_BY_ANALYSIS = (*DATA_TABLES, "shards")
_BY_CONTENT = (*_BY_ANALYSIS, "indexes")


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
        self._snapshots = Snapshots(self._store)
        self._old: tuple[Files, list[str]] | None = None
        self._names = VideoNames(self.output, self._snapshots)

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
            name: `videos`, `indexes`, `frames`, `detections`, `embeddings`, `tracks`,
                `failures`, `shards`, `runs`.
            columns: which; all where None.
            filter: a pyarrow expression; files and row groups that cannot match are not read.
            analysis: a fingerprint (or its beginning) instead of the newest analyses.
            current: False to also get superseded contents of files and, where `analysis` is not
                given, all analyses.

        Raises UsageError for an unknown table, column or analysis.
        """
        rows = self.view(name, filter, analysis, current=current)
        return rows.table(self._columns(name, columns))

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
        rows = self.view(name, filter, analysis, current=current)
        yield from rows.batches(self._columns(name, columns), batch_rows)

    def view(
        self,
        name: str,
        filter: pc.Expression | None = None,
        analysis: str | None = None,
        *,
        current: bool = True,
        superseded: bool = False,
    ) -> View:
        """The rows that `table` would read, as of now, to be read later or elsewhere; with
        `superseded` those of superseded contents too."""
        rows = View(self.dataset(name)).also(filter)
        prints, old = self.scope(name, analysis, current=current)
        if prints is not None:
            rows = rows.also(pc.field("analysis").isin(pa.array(prints, pa.string())))
        return rows.also(~pc.field("video_id").isin(old)) if old and not superseded else rows

    def scope(
        self, name: str, analysis: str | None = None, *, current: bool = True
    ) -> tuple[list[str] | None, list[str]]:
        """What `view` reads: fingerprints of analyses (None: all), and video ids left out."""
        old = self.superseded() if current and name in _BY_CONTENT else []
        if name not in _BY_ANALYSIS:
            return None, old
        known = [a for a in self.analyses() if name in ("shards", a.table)]
        if analysis is not None:
            return [find_analysis(known, analysis, self.output).fingerprint], old
        newest = {a.fingerprint for a in newest_analyses(known).values()}
        return (sorted(newest) if current and len(newest) < len(known) else None), old

    def dataset(self, name: str) -> ds.Dataset:
        """All rows of a table as it is now, as a pyarrow dataset."""
        if name not in TABLES:
            raise UsageError(f"{self.output}: no table {name}; there are {', '.join(TABLES)}")
        return self._snapshots.files(name).all

    def fragments(self, name: str, analysis: str) -> list[ds.Fragment]:
        """The files with all rows of an analysis (its fingerprint), for a reader of its own."""
        rows = self.view(name, analysis=analysis, current=False)
        return list(rows.dataset.get_fragments(filter=rows.wanted))

    def videos(self) -> pa.Table:
        """The current row of each uri, sorted by uri."""
        rows = read_table(self.dataset("videos"))
        newest = latest_rows(keys_of(rows.column("uri")), rows.column("recorded_at"))
        return rows.take(pa.array(newest)).sort_by("uri")

    def latest(self, name: str, rows: int, columns: Sequence[str]) -> tuple[pa.Table, int]:
        """The rows of `videos`, `failures` or `runs` that were recorded last, the latest first, and
        how many rows there are in all. Older files are not read."""
        from pipeline.ledger.latest import read_latest

        files = self._snapshots.files(name)
        return read_latest(files, rows, columns), files.row_count

    def analyses(self) -> list[RecordedAnalysis]:
        """Every analysis of the output, the oldest first."""
        return analyses_in(self._snapshots.of(table) for table in DATA_TABLES)

    def _columns(self, name: str, columns: Sequence[str] | None) -> list[str] | None:
        there = TABLES[name].schema.names
        strangers = [column for column in columns or () if column not in there]
        if strangers:
            raise UsageError(
                f"{self.output}: table {name} has no column {', '.join(strangers)}; "
                f"it has {', '.join(there)}"
            )
        return list(columns) if columns is not None else None

    def superseded(self) -> list[str]:
        """Ids of contents that some file once had and that no file has now."""
        files = self._snapshots.files("videos")
        if self._old is None or self._old[0] is not files:
            self._old = files, superseded_in(files)
        return self._old[1]

    # -- rows by what is asked for ----------------------------------------------------

    def select(
        self,
        name: str,
        where: Where | None = None,
        columns: Sequence[str] | None = None,
        analysis: str | None = None,
    ) -> pa.Table:
        """Rows of a table by video, frames, time, class and score, in the table's order.

        They are of current contents, but for a video that is named by its id: that is a content.
        """
        from pipeline.results.select import select

        return select(self, name, where, self._columns(name, columns), analysis)

    def pandas(self, name: str, where: Where | None = None) -> pandas.DataFrame:
        """As `select`, as a pandas data frame. Raises UsageError where pandas is absent."""
        from pipeline.results.optional import load

        load("pandas", "pandas", "Ledger.pandas")
        return self.select(name, where).to_pandas()

    def polars(self, name: str, where: Where | None = None) -> polars.DataFrame:
        """As `select`, as a Polars data frame. Raises UsageError where Polars is absent."""
        from pipeline.results.optional import load

        return load("polars", "polars", "Ledger.polars").from_arrow(self.select(name, where))

    def frames(self, where: Where | None = None) -> Iterator[Frame]:
        """Frames as `frame` gives them, in the order of (video_id, frame_index), streamed."""
        for batch in self.frame_batches(where):
            yield from batch

    def frame_batches(self, where: Where | None = None) -> Iterator[FrameBatch]:
        """The same in columns, a bounded number at a time."""
        from pipeline.results.joined import join

        yield from join(self, where).batches()

    def frames_dataset(self, where: Where | None = None) -> FramesDataset:
        """A PyTorch IterableDataset of pictures, boxes and embeddings; see FramesDataset."""
        from pipeline.results.frames_dataset import FramesDataset

        return FramesDataset(self, where)

    def tracks(
        self, where: Where | None = None, analysis: str | None = None, *, interpolate: bool = False
    ) -> pa.Table:
        """Rows of `tracks` by video, frames, time, class and score, in the table's order.

        Args:
            interpolate: give frames in which a track is lost the box on the line between the
                detections before and behind, and leave out those that none follows. It takes
                what `where` finds for all there is.
        """
        from pipeline.tracks.interpolate import interpolated

        rows = self.select("tracks", where, analysis=analysis)
        return interpolated(rows) if interpolate else rows

    def track_summaries(self, where: Where | None = None) -> pa.Table:
        """One row for each track, with its span, mean score and mean embedding: see
        `tracks.summary`."""
        from pipeline.tracks.summary import summaries

        return summaries(self, where)

    def track_joins(self, video: str | None = None, analysis: str | None = None) -> pa.Table:
        """Where tracks of shards that were followed apart were taken for one: see
        `tracks.recorded_joins`."""
        from pipeline.tracks.recorded_joins import recorded_joins

        return recorded_joins(self, video, analysis)

    # -- one video, one frame ---------------------------------------------------------

    def index(self, video: str) -> VideoIndex:
        """The index of a video, by uri or video_id. Raises UsageError where there is none."""
        video_id = self.video_id(video)
        index = read_index(self._snapshots.files("indexes"), video_id)
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
        if not 0 <= index < 2**63:
            raise UsageError(f"frame index {index}: frames count from 0")
        video_id = self.video_id(video)
        fingerprints = chosen_analyses(self.analyses(), analysis, self.output)
        rows = self._rows_of(video_id, index, "frames", fingerprints["frames"])
        if not rows.num_rows:
            there = self._frames_of(video_id, fingerprints["frames"])
            raise UsageError(f"{self.output}: {no_frame(video, index, there)}")
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

    def _rows_of(self, video_id: str, index: int, table: str, prints: list[str]) -> pa.Table:
        # `analyses` has looked at the data tables a moment ago.
        files = self._snapshots.files(table, now=False)
        return files.rows(prints, video_id=video_id, frame_index=index)

    def _frames_of(self, video_id: str, prints: list[str]) -> np.ndarray:
        """int64: the frames that were sampled of a video, in no order."""
        # Typed, for a table that no analysis writes to: an empty list has no type.
        wanted = pc.field("analysis").isin(pa.array(prints, pa.string()))
        wanted &= pc.field("video_id") == video_id
        few = self._snapshots.files("frames").having(video_id=video_id)
        return read_table(few, ["frame_index"], wanted).column("frame_index").to_numpy()

    def video_id(self, video: str) -> str:
        """The content of a video, by uri (its newest) or video_id. Raises UsageError where there is
        none."""
        return self._names.video_id(video)
