"""The `indexes` table: a VideoIndex as a row and back, found by its video without a scan."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from pipeline.ledger.files import Files
from pipeline.ledger.keys import KEY, SortedKeys, key_of, keys_of, order_of
from pipeline.ledger.schema import plain
from pipeline.ledger.store import Store
from pipeline.records import VideoIndex


def index_row(index: VideoIndex, run_id: str) -> pa.Table:
    """One row of `indexes`."""
    values = {
        "video_id": index.video_id,
        "frame_count": index.frame_count,
        "pts": index.pts,
        "keyframes": np.asarray(index.keyframes, dtype=np.int64),
        "time_base": str(index.time_base),
        "stream_index": index.stream_index,
        "container": index.container,
        "codec": index.codec,
        "pixel_format": index.pixel_format,
        "width": index.width,
        "height": index.height,
        "rotation": index.rotation,
        "duration_s": index.duration_s,
        "exact_pts": index.exact_pts,
        "expected_frames": index.expected_frames,
        "damage": index.damage,
        "run_id": run_id,
    }
    schema = plain("indexes")
    return pa.table([_column(values[field.name], field.type) for field in schema], schema=schema)


def _column(value: object, kind: pa.DataType) -> pa.Array:
    if isinstance(value, np.ndarray):
        offsets = pa.array([0, len(value)], pa.int32())
        return pa.ListArray.from_arrays(offsets, pa.array(value, pa.int64()))
    return pa.array([value], kind)


def index_of(rows: pa.Table | pa.RecordBatch, at: int = 0) -> VideoIndex:
    """The VideoIndex of one row; `pts` and `keyframes` may share memory with it."""

    def value(name: str):  # type: ignore[no-untyped-def]
        return rows.column(name)[at]

    return VideoIndex(
        video_id=value("video_id").as_py(),
        pts=_int64s(value("pts")),
        keyframes=_int64s(value("keyframes")),
        time_base=Fraction(value("time_base").as_py()),
        stream_index=value("stream_index").as_py(),
        container=value("container").as_py(),
        codec=value("codec").as_py(),
        pixel_format=value("pixel_format").as_py(),
        width=value("width").as_py(),
        height=value("height").as_py(),
        rotation=value("rotation").as_py(),
        duration_s=value("duration_s").as_py(),
        exact_pts=value("exact_pts").as_py(),
        expected_frames=value("expected_frames").as_py(),
        damage=value("damage").as_py(),
    )


def _int64s(value: pa.ListScalar) -> np.ndarray:
    return value.values.to_numpy().astype(np.int64, copy=False)


def read_index(files: Files, video_id: str) -> VideoIndex | None:
    """The index of one video out of the `indexes` files, without reading more than those rows."""
    rows = files.rows(video_id=video_id)
    return index_of(rows) if rows.num_rows else None


class IndexTable:
    """Where each video's index lies: file and row, 28 bytes a video.

    Ids are random, so the min and max of a file say little of what it holds; the ids of all
    files are read once, on the first question, and an index then costs one row group.
    """

    _OPEN = 16
    """Files kept open: corpora are walked in about the order in which they were indexed."""

    def __init__(self, store: Store, snapshot: DeltaTable | None) -> None:
        self._store = store
        self._snapshot = snapshot
        self._paths: list[str] = []
        self._keys: SortedKeys | None = None
        self._place = np.empty((0, 2), np.int32)
        self._counts = np.empty(0, np.int32)
        self._opened: dict[str, tuple[pq.ParquetFile, np.ndarray]] = {}

    def read(self, video_id: str) -> VideoIndex | None:
        at = self._find(video_id)
        if at is None:
            return None
        number, row = self._place[at].tolist()
        file, ends = self._file(self._paths[number])
        group = int(np.searchsorted(ends, row, side="right"))
        rows = file.read_row_group(group).cast(plain("indexes"))
        return index_of(rows.slice(row - (int(ends[group - 1]) if group else 0), 1))

    def frame_count(self, video_id: str) -> int | None:
        """Frames of the video, None where it has no index."""
        at = self._find(video_id)
        return int(self._counts[at]) if at is not None else None

    def _file(self, path: str) -> tuple[pq.ParquetFile, np.ndarray]:
        """A file with its footer read, and the row at which each of its row groups ends."""
        if path not in self._opened:
            if len(self._opened) == self._OPEN:
                self._opened.pop(next(iter(self._opened)))[0].close(force=True)
            file = pq.ParquetFile(self._store.filesystem("indexes").open_input_file(path))
            groups = range(file.num_row_groups)
            ends = np.cumsum([file.metadata.row_group(group).num_rows for group in groups])
            self._opened[path] = file, ends
        return self._opened[path]

    def _find(self, video_id: str) -> int | None:
        if self._keys is None:
            self._keys = self._load()
        found = self._keys.span(key_of(video_id))
        return found.start if found.stop > found.start else None

    def _load(self) -> SortedKeys:
        keys, places, counts = [np.empty(0, KEY)], [self._place], [self._counts]
        files = self._store.files("indexes", self._snapshot).paths if self._snapshot else []
        filesystem = self._store.filesystem("indexes")
        for number, path in enumerate(files):
            self._paths.append(path)
            with filesystem.open_input_file(path) as file:
                rows = pq.ParquetFile(file).read(["video_id", "frame_count"])
            keys.append(keys_of(rows.column("video_id").cast(pa.string())))
            counts.append(rows.column("frame_count").to_numpy().astype(np.int32))
            place = np.empty((len(rows), 2), np.int32)
            place[:, 0], place[:, 1] = number, np.arange(len(rows))
            places.append(place)
        every = np.concatenate(keys)
        order = order_of(every)
        self._place = np.concatenate(places)[order]
        self._counts = np.concatenate(counts)[order]
        return SortedKeys(every[order])
