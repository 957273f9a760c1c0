"""A Lance dataset: a row a frame, with its boxes as a list and its embedding as a vector column."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain

import pyarrow as pa

from pipeline.ledger.frame import FrameBatch
from pipeline.ledger.schema import plain
from pipeline.results.export.job import BOX, Counts, Job, Videos
from pipeline.results.export.target import new_folder
from pipeline.results.optional import load

_FRAME = ("video_id", "frame_index", "pts", "pts_s", "is_keyframe", "width", "height", "status")


def export(job: Job) -> Counts:
    """Write the dataset; `embedding` is null where a frame has none."""
    lance = load("lance", "pylance", "an export to Lance")
    counts = Counts()
    videos = job.videos()
    batches = job.batches()
    # How long vectors are is a part of the schema.
    held: list[FrameBatch] = []
    for batch in batches:
        held.append(batch)
        if len(batch.vectors):
            break
    schema = _schema(held[-1].vectors.shape[1] if held else 0, job)

    def rows() -> Iterator[pa.RecordBatch]:
        last = ""
        for batch in chain(held, batches):
            ids = batch.frames.column("video_id").unique().to_pylist()
            counts.videos += len(ids) - (ids[0] == last)
            last = ids[-1]
            counts.frames += len(batch)
            counts.boxes += len(batch.boxes)
            counts.embeddings += len(batch.vectors)
            yield from _table(batch, videos, schema).to_batches()

    with new_folder(job.path, job.overwrite) as folder:
        reader = pa.RecordBatchReader.from_batches(schema, rows())
        lance.write_dataset(reader, str(folder), schema=schema, mode="create")
    return counts


def _schema(dimensions: int, job: Job) -> pa.Schema:
    frames, boxes = plain("frames"), plain("detections")
    vector = pa.list_(pa.float32(), dimensions) if dimensions else pa.list_(pa.float32())
    return pa.schema(
        [
            *(frames.field(name) for name in _FRAME),
            pa.field("uri", pa.string()),
            pa.field("boxes", pa.list_(pa.struct([boxes.field(name) for name in BOX]))),
            pa.field("embedding", vector),
        ],
        metadata={"frameledger": json.dumps(job.about())},
    )


def _table(batch: FrameBatch, videos: Videos, schema: pa.Schema) -> pa.Table:
    frames = batch.frames
    boxes = pa.StructArray.from_arrays(
        [batch.boxes.column(name).combine_chunks() for name in BOX],
        fields=list(schema.field("boxes").type.value_type),
    )
    names = [videos.uri(video_id) for video_id in frames.column("video_id").to_pylist()]
    offsets = pa.array(batch.offsets, pa.int32())
    kind = schema.field("embedding").type
    lists = _vectors(batch, kind)
    return pa.table(
        [
            *(frames.column(name) for name in _FRAME),
            pa.array(names, pa.string()),
            pa.ListArray.from_arrays(offsets, boxes, type=schema.field("boxes").type),
            lists.take(pa.array(batch.vector_of, mask=batch.vector_of < 0)),
        ],
        schema=schema,
    )


def _vectors(batch: FrameBatch, kind: pa.DataType) -> pa.Array:
    if not pa.types.is_fixed_size_list(kind):
        return pa.array([], kind)
    values = pa.array(batch.vectors.reshape(-1), pa.float32())
    return pa.FixedSizeListArray.from_arrays(values, type=kind)
