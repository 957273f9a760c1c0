"""The embeddings of one analysis, streamed row group by row group on all cores.

Memory is bounded by threads times a row group (512 vectors: 1 MiB of 512 floats), however many
rows there are. A list column's values are one flat buffer, so a row group is a matrix as it is.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import UsageError
from pipeline.results.moments import Rows
from pipeline.storage.uris import is_remote

if TYPE_CHECKING:
    import pyarrow.dataset as ds

    from pipeline.ledger.analyses import RecordedAnalysis
    from pipeline.ledger.reader import Ledger

_COLUMNS = ["video_id", "frame_index", "pts_s", "embedding"]
_NONE = np.empty(0, np.int64)
_READS_AT_ONCE = 16
"""Row groups under way where they come from a store, whose answers take their time."""
_FEW_VIDEOS = 1000
"""Wanted videos up to which the statistics of each row group are asked for them."""


@dataclass(frozen=True)
class Block:
    """Rows of one row group."""

    vectors: np.ndarray
    """float32 (n, dimensions), of unit length."""
    table: pa.Table
    stride: int | None = None
    """Frames from one that is sampled to the next, where that is always the same."""

    def by_video(self) -> Iterator[tuple[str, slice]]:
        """Consecutive rows of one video each."""
        ids = self.table.column("video_id").cast(pa.string()).dictionary_encode().combine_chunks()
        codes = ids.indices.to_numpy()
        edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
        for start, stop in pairwise(edges):
            yield ids.dictionary[int(codes[start])].as_py(), slice(start, stop)

    def rows(self, video_id: str, part: slice) -> Iterator[Rows]:
        """Rows of one video in the order of their frames, parted where some may be elsewhere.

        Compaction puts commits behind one another in any order. Where two rows lie further apart
        than neighbours surely do, it takes a look at the whole table to know that none is between.
        """
        frames, times, vectors = (column[part] for column in self._columns)
        if np.any(frames[1:] < frames[:-1]):
            order = np.argsort(frames, kind="stable")
            frames, times, vectors = frames[order], times[order], vectors[order]
        steps = np.diff(frames)
        # A row that is left out between two makes for twice the least step.
        least = self.stride or (int(steps.min()) if len(steps) > 1 else 1)
        wide = np.flatnonzero(steps >= 2 * least) + 1
        for start, stop in pairwise([0, *wide.tolist(), len(frames)]):
            yield Rows(video_id, frames[start:stop], times[start:stop], vectors[start:stop])

    @cached_property
    def _columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        frames = self.table.column("frame_index").to_numpy()
        return frames, self.table.column("pts_s").to_numpy(), self.vectors


class Vectors:
    """What one analysis wrote to `embeddings`, as it is when this is made.

    Args:
        videos: ids to read, all where None.
    """

    def __init__(
        self,
        ledger: Ledger,
        analysis: RecordedAnalysis,
        videos: frozenset[str] | None = None,
    ) -> None:
        self._ledger = ledger
        self._analysis = analysis.fingerprint
        # Only the probe's are not of unit length.
        self._scale = analysis.identity.get("backend") == "probe"
        self._fragments = ledger.fragments("embeddings", analysis.fingerprint)
        self._near: dict[str, np.ndarray | None] | None = None
        self._stride = _stride(ledger, analysis)
        self._few = sorted(videos) if videos is not None and len(videos) <= _FEW_VIDEOS else None
        self._local = not is_remote(ledger.output)
        self._threads = (os.cpu_count() or 1) if self._local else _READS_AT_ONCE

    @property
    def output(self) -> str:
        return self._ledger.output

    @property
    def files(self) -> list[str]:
        """Paths of the files, below the table."""
        return [fragment.path for fragment in self._fragments]

    def only(self, near: Mapping[str, np.ndarray | None]) -> Vectors:
        """The same with `each` leaving out row groups.

        Args:
            near: by path, rows (int64) of the file whose row groups stay; None: all of them.
        """
        fewer = copy(self)
        fewer._near = dict(near)
        return fewer

    def of_file(self, path: str) -> Iterator[tuple[int, Block]]:
        """(number of its first row in the file, block) of the row groups of a file, in order."""
        (fragment,) = (fragment for fragment in self._fragments if fragment.path == path)
        row = 0
        with self._opened(fragment) as file:
            for group in range(file.num_row_groups):
                block = self._block(file.read_row_group(group, _COLUMNS))
                yield row, block
                row += len(block.vectors)

    @cached_property
    def dimensions(self) -> int:
        """Of a vector; 0 where there are no rows."""
        for fragment in self._fragments:
            with self._opened(fragment) as file:
                for group in range(file.num_row_groups):
                    lists = file.read_row_group(group, ["embedding"]).column("embedding")
                    if len(lists):
                        return int(pc.list_value_length(lists[:1])[0].as_py())
        return 0

    def each(self, use: Callable[[Block], None]) -> None:
        """Call `use` with every block, from several threads, in no order."""
        if not self.dimensions:
            return
        groups = self._groups()
        lock = threading.Lock()

        def work() -> None:
            at: ds.ParquetFileFragment | None = None
            file: pq.ParquetFile | None = None
            try:
                while True:
                    with lock:
                        fragment, group = next(groups, (None, 0))
                    if fragment is None:
                        return
                    if file is None or fragment is not at:
                        at, file = fragment, self._opened(fragment, file)
                    use(self._block(file.read_row_group(group, _COLUMNS, use_threads=False)))
            finally:
                if file is not None:
                    file.close(force=True)

        with ThreadPoolExecutor(self._threads) as pool:
            running = [pool.submit(work) for _ in range(self._threads)]
            try:
                wait(running, return_when=FIRST_EXCEPTION)
            finally:
                with lock:
                    groups.close()  # What ends this, an interrupt too, ends every thread.
        for done in running:
            done.result()

    def between(self, video_id: str, first: int, last: int) -> Rows | None:
        """The rows of a video's frames from `first` to `last`, inclusive; None where none are."""
        frame = pc.field("frame_index")
        wanted = (pc.field("video_id") == video_id) & (frame >= first) & (frame <= last)
        table = self._ledger.table("embeddings", _COLUMNS, wanted, self._analysis, current=False)
        if not table.num_rows:
            return None
        block = self._block(table)
        order = np.argsort(frames := table.column("frame_index").to_numpy(), kind="stable")
        times = table.column("pts_s").to_numpy()
        return Rows(video_id, frames[order], times[order], block.vectors[order])

    def _groups(self) -> Generator[tuple[ds.ParquetFileFragment, int], None, None]:
        """Every row group that can have wanted rows; the footers are read meanwhile."""
        for fragment in self._fragments:
            near = self._near.get(fragment.path, _NONE) if self._near is not None else None
            if near is not None and not len(near):
                continue
            footer = fragment.metadata
            groups: Iterable[int] = range(footer.num_row_groups)
            if near is not None:
                ends = np.cumsum([footer.row_group(group).num_rows for group in groups])
                groups = np.unique(np.searchsorted(ends, near, side="right")).tolist()
            for group in groups:
                if self._few is None or _may_hold(footer.row_group(group), self._few):
                    yield fragment, group

    def _opened(
        self, fragment: ds.ParquetFileFragment, before: pq.ParquetFile | None = None
    ) -> pq.ParquetFile:
        if before is not None:
            before.close(force=True)
        # From a store, all columns of a row group in one go.
        return pq.ParquetFile(
            fragment.open(), metadata=fragment.metadata, pre_buffer=not self._local
        )

    def _block(self, table: pa.Table) -> Block:
        lists = table.column("embedding")
        # Without a copy where it is one chunk, which a row group is.
        flat = lists.combine_chunks() if lists.num_chunks != 1 else lists.chunk(0)
        values = flat.flatten().to_numpy(zero_copy_only=True)
        if values.size != table.num_rows * self.dimensions:
            raise UsageError(f"{self._ledger.output}: embeddings of different lengths")
        vectors = values.reshape(table.num_rows, self.dimensions)
        return Block(unit(vectors) if self._scale else vectors, table, self._stride)


def _stride(ledger: Ledger, analysis: RecordedAnalysis) -> int | None:
    for known in ledger.analyses():
        if known.fingerprint == analysis.identity.get("frames"):
            sampling: Any = known.identity.get("sampling")
            return sampling.get("stride") if isinstance(sampling, dict) else None
    return None


def _may_hold(group: Any, videos: list[str]) -> bool:
    """Whether a row group's least and largest video_id leave room for one of these, ascending."""
    for at in range(group.num_columns):
        column = group.column(at)
        if column.path_in_schema == "video_id":
            known = column.statistics
            if known is None or not known.has_min_max:
                return True
            place = int(np.searchsorted(videos, known.min))
            return place < len(videos) and videos[place] <= known.max
    return True


def unit(vectors: np.ndarray) -> np.ndarray:
    """float32 rows of unit length; rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: np.ndarray = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return scaled
