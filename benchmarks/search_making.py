"""Embeddings at random in the tables of a real output, as runs over long videos leave them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa

DIMENSIONS = 512
FRAMES = 10_000
"""Of each video."""
BYTES_A_ROW = 2_150
"""On disk: random floats hardly compress."""
_CHUNK_ROWS = 50_000
"""Of a commit: 100 MiB."""
_RUN_ID = "bench"


def chunks(count: int) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, float32 (n, DIMENSIONS) of unit length), the same ones each time."""
    for first in range(0, count, _CHUNK_ROWS):
        rng = np.random.default_rng(first)
        size = min(_CHUNK_ROWS, count - first), DIMENSIONS
        vectors = rng.standard_normal(size, dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        yield first, vectors


def scenes(
    count: int, dimensions: int = DIMENSIONS, chunk_rows: int = _CHUNK_ROWS, seed: int = 0
) -> Iterator[tuple[int, np.ndarray]]:
    """As `chunks`, of video: scenes of a few of 256 topics, 50 frames each that change slowly (a
    cosine of 0.997 from one to the next, 0.89 from the first to the last)."""
    topics = np.random.default_rng(256).standard_normal((256, dimensions), dtype=np.float32)
    for first in range(0, count, chunk_rows):
        rng = np.random.default_rng((seed, first))
        number = -(-min(chunk_rows, count - first) // _SCENE)
        shares = rng.dirichlet(np.full(len(topics), 0.02), number).astype(np.float32)
        centers = _unit(shares @ topics)
        size = number, _SCENE, dimensions
        unlike = rng.standard_normal(size[::2], np.float32) * (0.4 / dimensions**0.5)
        steps = rng.standard_normal(size, np.float32) * (0.08 / dimensions**0.5)
        frames = (centers + unlike)[:, None] + np.cumsum(steps, axis=1)
        yield first, _unit(frames.reshape(-1, dimensions)[: count - first])


_SCENE = 50


def _unit(vectors: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def query() -> np.ndarray:
    """float32 (DIMENSIONS,) of unit length."""
    found = np.random.default_rng(2**32).standard_normal(DIMENSIONS).astype(np.float32)
    scaled: np.ndarray = found / np.linalg.norm(found)
    return scaled


def video_id(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def make(
    output: Path, count: int, of: Callable[[int], Iterator[tuple[int, np.ndarray]]] = chunks
) -> None:
    """Write `count` embeddings, and the videos and indexes that belong to them."""
    from pipeline.ledger.analyses import record_analyses
    from pipeline.ledger.creation import create_tables
    from pipeline.ledger.delta import write
    from pipeline.ledger.schema import TABLES, plain
    from pipeline.ledger.store import Store
    from pipeline.records import Analysis

    store = Store(str(output))
    create_tables(store)
    analysis = Analysis("embedder", "embeddings", {"backend": "clip", "made": "at random"})
    record_analyses(store, (analysis,), _RUN_ID)
    spec, snapshot = TABLES["embeddings"], store.open("embeddings")
    for first, vectors in of(count):
        rows = np.arange(first, first + len(vectors))
        ids = pa.array([video_id(int(number)) for number in rows // FRAMES])
        offsets = np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1]
        embeddings = pa.ListArray.from_arrays(pa.array(offsets), pa.array(vectors.reshape(-1)))
        columns = {
            "analysis": pa.array([analysis.fingerprint] * len(rows)),
            "run_id": pa.array([_RUN_ID] * len(rows)),
            "video_id": ids,
            "frame_index": pa.array(rows % FRAMES),
            "pts_s": pa.array(rows % FRAMES / 30),
            "embedding": embeddings,
        }
        data = pa.table(columns, schema=plain("embeddings"))
        # In the order of the table, which is that of random ids.
        order = [(name, "ascending") for name in spec.sort_by]
        write(store, snapshot, spec, data.sort_by(order), [f"rows-{first}"], {})
    _write_videos(store, -(-count // FRAMES))


def _write_videos(store, videos: int) -> None:  # type: ignore[no-untyped-def]
    import datetime

    from pipeline.ledger.delta import write
    from pipeline.ledger.indexes import index_row
    from pipeline.ledger.schema import TABLES, plain
    from pipeline.records import VideoIndex

    pts, keyframes = np.arange(FRAMES), np.arange(0, FRAMES, 30)
    of = ("mp4", "h264", "yuv420p", 1280, 720, 0, FRAMES / 30, True)
    indexes = pa.concat_tables(
        index_row(VideoIndex(video_id(n), pts, keyframes, Fraction(1, 30), 0, *of), _RUN_ID)
        for n in range(videos)
    )
    now = datetime.datetime.now(datetime.timezone.utc)
    rows = [
        {
            "video_id": video_id(n),
            "uri": f"/videos/{n:05d}.mp4",
            "stamp": "1:1",
            "frame_count": FRAMES,
            "status": "ok",
            "recorded_at": now,
        }
        for n in range(videos)
    ]
    for name, data in (
        ("indexes", indexes),
        ("videos", pa.Table.from_pylist(rows, plain("videos"))),
    ):
        write(store, store.open(name), TABLES[name], data, [f"{name}-all"], {})
