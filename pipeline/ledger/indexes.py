"""The `indexes` table: a VideoIndex as a row and back, found by its video without a scan."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from pipeline.ledger.keys import KEY, key_of, keys_of, order_of, span
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


class IndexTable:
    """Where each video's index lies: file, row group and row, 40 bytes a video.

    Ids are random, so the min and max of a file say nothing of what it holds; the ids of all
    files are read once, on the first question, and an index then costs one row group.
    """

    def __init__(self, store: Store, snapshot: DeltaTable | None) -> None:
        self._store = store
        self._snapshot = snapshot
        self._paths: list[str] = []
        self._keys = np.empty(0, KEY)
        self._place = np.empty((0, 3), np.int64)
        self._counts = np.empty(0, np.int64)
        self._loaded = snapshot is None

    def read(self, video_id: str) -> VideoIndex | None:
        self._load()
        found = span(self._keys, key_of(video_id))
        if found.stop == found.start:
            return None
        path, group, row = self._place[found.start].tolist()
        with self._store.filesystem("indexes").open_input_file(self._paths[path]) as file:
            rows = pq.ParquetFile(file).read_row_group(group).cast(plain("indexes"))
        return index_of(rows.slice(row, 1))

    def frame_count(self, video_id: str) -> int | None:
        """Frames of the video, None where it has no index."""
        self._load()
        found = span(self._keys, key_of(video_id))
        return int(self._counts[found.start]) if found.stop > found.start else None

    def _load(self) -> None:
        if self._loaded or self._snapshot is None:
            return
        keys, places, counts = [], [], []
        filesystem = self._store.filesystem("indexes")
        for fragment in self._store.dataset("indexes", self._snapshot).get_fragments():
            number = len(self._paths)
            self._paths.append(fragment.path)
            with filesystem.open_input_file(fragment.path) as file:
                parquet = pq.ParquetFile(file)
                for group in range(parquet.num_row_groups):
                    rows = parquet.read_row_group(group, columns=["video_id", "frame_count"])
                    keys.append(keys_of(rows.column("video_id").cast(pa.string())))
                    counts.append(rows.column("frame_count").to_numpy())
                    place = np.empty((len(rows), 3), np.int64)
                    place[:, 0], place[:, 1], place[:, 2] = number, group, np.arange(len(rows))
                    places.append(place)
        if keys:
            every = np.concatenate(keys)
            order = order_of(every)
            self._keys = every[order]
            self._place = np.concatenate(places)[order]
            self._counts = np.concatenate(counts)[order]
        self._loaded = True
