"""Embeddings as one memory-mappable array, with an index that says whose each row is::

embeddings.npy   float32 (n, dimensions)
index.parquet    row, video_id, uri, frame_index, pts_s      n rows
about.json       the analyses that the rows come from

np.load("embeddings.npy", mmap_mode="r")[row]                reads that row alone
"""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.results.export.job import Counts, Job
from pipeline.results.export.target import new_folder

INDEX = pa.schema(
    [
        ("row", pa.int64()),
        ("video_id", pa.string()),
        ("uri", pa.string()),
        ("frame_index", pa.int64()),
        ("pts_s", pa.float64()),
    ]
)
_INDEX_ROWS = 65536


def export(job: Job) -> Counts:
    """Write the folder. Frames without an embedding are not in it."""
    counts = Counts()
    videos = job.videos()
    seen: set[str] = set()
    with new_folder(job.path, job.overwrite) as folder:
        with (
            NpyWriter(folder / "embeddings.npy") as vectors,
            pq.ParquetWriter(folder / "index.parquet", INDEX, compression="zstd") as index,
        ):
            for batch in job.batches(boxes=False):
                rows = batch.frames.filter(pa.array(batch.vector_of >= 0))
                if not len(rows):
                    continue
                ids = rows.column("video_id")
                names = pa.array([videos.uri(v) for v in ids.to_pylist()], pa.string())
                row = np.arange(vectors.rows, vectors.rows + len(rows))
                columns = [pa.array(row), ids, names, rows.column("frame_index")]
                table = pa.table([*columns, rows.column("pts_s")], schema=INDEX)
                index.write_table(table, row_group_size=_INDEX_ROWS)
                vectors.add(batch.vectors)
                seen.update(pc.unique(ids).to_pylist())
        (folder / "about.json").write_text(json.dumps(job.about(), indent=2), encoding="utf-8")
        counts.frames = counts.embeddings = vectors.rows
        counts.videos = len(seen)
    return counts


class NpyWriter:
    """An .npy file of float32 rows whose number is known at its end.

    numpy leaves room in a header for the first dimension to grow, so that the header of any
    number of rows has one length.
    """

    def __init__(self, path: Path) -> None:
        self.rows = 0
        self._width = 0
        self._file = path.open("wb")
        self._write_header()
        self._data_at = self._file.tell()

    def __enter__(self) -> NpyWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None:
                self._file.seek(0)
                self._write_header()
                assert self._file.tell() == self._data_at

    def add(self, rows: np.ndarray) -> None:
        """Append float32 (n, width); the first rows say what the width is."""
        self._width = self._width or rows.shape[1]
        if rows.shape[1] != self._width:
            raise ValueError(f"rows of {rows.shape[1]} values among rows of {self._width}")
        self._file.write(np.ascontiguousarray(rows, dtype="<f4").data)
        self.rows += len(rows)

    def _write_header(self) -> None:
        shape = (self.rows, self._width)
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
