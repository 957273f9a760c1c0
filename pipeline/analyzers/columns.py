"""Results as Arrow tables in the columns of `pipeline.ledger.schema.DATA_COLUMNS`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from pipeline.analyzers.masks import Rle


def detections_table(
    local: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray,
    class_ids: np.ndarray,
    class_names: dict[int, str],
    *,
    masks: Sequence[Rle] | None = None,
    keypoints: np.ndarray | None = None,
) -> pa.Table:
    """Boxes, one row each.

    Args:
        local: int64 (n,), ascending: which frame of the batch.
        boxes: float32 (n, 4): x1, y1, x2, y2 in displayed pixels.
        scores: float32 (n,).
        class_ids: integers (n,); one without a name is named by its number.
        masks: one for each box, or None where the model has none.
        keypoints: float32 (n, k * 3), x, y and score of each point, or None.
    """
    import pyarrow as pa

    from pipeline.ledger.schema import DATA_COLUMNS

    seen, which = np.unique(class_ids, return_inverse=True)
    names = pa.array([class_names.get(int(i), str(i)) for i in seen], pa.string())
    columns: dict[str, object] = {
        name: np.ascontiguousarray(boxes[:, side], dtype=np.float32)
        for side, name in enumerate(("x1", "y1", "x2", "y2"))
    }
    columns["score"] = scores.astype(np.float32, copy=False)
    columns["class_id"] = class_ids.astype(np.int32, copy=False)
    columns["class_name"] = names.take(pa.array(which.reshape(-1)))
    if masks is not None:
        columns["mask"] = list(masks)
    if keypoints is not None:
        columns["keypoints"] = list(keypoints.astype(np.float32, copy=False))
    arrays = [
        pa.array(columns[field.name], field.type)
        if field.name in columns
        else pa.nulls(len(local), field.type)
        for field in DATA_COLUMNS["detections"]
    ]
    schema = DATA_COLUMNS["detections"].insert(0, pa.field("local", pa.int64()))
    return pa.Table.from_arrays([pa.array(local, pa.int64()), *arrays], schema=schema)


def embeddings_table(embeddings: np.ndarray) -> pa.Table:
    """One row a frame from float32 (n, dimensions), without a copy where it is contiguous."""
    import pyarrow as pa

    from pipeline.ledger.schema import DATA_COLUMNS

    count, width = embeddings.shape
    values = pa.array(np.ascontiguousarray(embeddings, dtype=np.float32).reshape(-1))
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * np.int32(width))
    schema = DATA_COLUMNS["embeddings"].insert(0, pa.field("local", pa.int64()))
    local = pa.array(np.arange(count, dtype=np.int64))
    lists = pa.ListArray.from_arrays(offsets, values, type=schema.field("embedding").type)
    return pa.Table.from_arrays([local, lists], schema=schema)
