"""The books of a million videos: what planning, a run without work, status and lookups cost.

make_corpus     empty source files, real stamps        folders of 1,000
make_tables     synthetic rows of every table, in commits such as runs make
tidy            the same tables after compaction; a tail of small commits follows
measure         each command in a fresh process: seconds and peak memory
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing as mp
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.measure import table
from pipeline.config import Config, load_config

VIDEOS = 1_000_000
COMMIT_VIDEOS = 200
"""Videos that share a commit: a run of short videos commits this many in half a minute."""
TAIL_COMMITS = 100
"""Commits since the last compaction."""
NEVER_COMPACTED_COMMITS = 1_000
ROUNDS = 3
_BODY_COMMIT_VIDEOS, _TIDY_BYTES = 10_000, 128 * 2**20
FOLDER_FILES = 1000
FRAMES, STRIDE = 100, 32
"""Frames of a video, and of how many one is sampled: 4 sampled frames, one shard."""
BOXES, DIMENSIONS = 2, 16
"""Boxes of a video, and floats of an embedding: the books do not read either."""
CONFIG = "configs/demo.yaml"
_RUN_ID = "20260101T000000-000000"
_START_US = 1_767_225_600_000_000


@dataclass(frozen=True)
class Block:
    """Consecutive videos that land in one commit of each table."""

    first: int
    names: list[str]
    ids: list[str]
    stamp: str

    def __len__(self) -> int:
        return len(self.names)


def name_of(corpus: Path, number: int) -> str:
    return f"{corpus}/{number // FOLDER_FILES:05d}/video-{number:08d}.mp4"


def video_id_of(number: int) -> str:
    return hashlib.sha256(b"video %d" % number).hexdigest()


def make_corpus(corpus: Path, videos: int) -> None:
    """Empty files, so that a million of them cost nothing but their inodes; all of one mtime."""
    for number in range(videos):
        name = name_of(corpus, number)
        if number % FOLDER_FILES == 0:
            os.makedirs(os.path.dirname(name), exist_ok=True)
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o644))
        os.utime(name, ns=(_START_US * 1000, _START_US * 1000))


def block_of(corpus: Path, videos: range) -> Block:
    return Block(
        videos.start,
        [name_of(corpus, number) for number in videos],
        [video_id_of(number) for number in videos],
        f"0:{_START_US * 1000}",
    )


def ranges(videos: range, each: int) -> tuple[range, ...]:
    return tuple(videos[first : first + each] for first in range(0, len(videos), each))


def make_tables(output: Path, corpus: Path, layout: tuple[range, ...]) -> None:
    """All tables of the finished corpus; of each range of videos one commit to every table."""
    from pipeline.engine.job import analyses_of
    from pipeline.ledger.analyses import record_analyses
    from pipeline.ledger.delta import create_tables
    from pipeline.ledger.store import Store

    analyses = analyses_of(config())
    store = Store(str(output))
    create_tables(store)
    record_analyses(store, analyses, _RUN_ID)
    prints = {analysis.table: analysis.fingerprint for analysis in analyses}
    # Data tables have as many versions: made, an analysis recorded, the same commits.
    version = store.open("frames").version()
    given = (str(output), str(corpus), layout, prints, version)
    # Two processes, for two cores; tables know nothing of each other.
    halves = [("indexes", "frames", "videos"), ("shards", "embeddings", "detections")]
    context = mp.get_context("spawn")
    workers = [context.Process(target=_write_tables, args=(*given, half)) for half in halves]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        if worker.exitcode:
            raise RuntimeError(f"writing tables ended with {worker.exitcode}")


def _write_tables(
    output: str,
    corpus: str,
    layout: tuple[range, ...],
    prints: dict[str, str],
    version: int,
    tables: tuple[str, ...],
) -> None:
    from pipeline.ledger import delta
    from pipeline.ledger.catchup import note_covers, note_shards
    from pipeline.ledger.schema import DATA_TABLES, TABLES
    from pipeline.ledger.store import Store

    store = Store(output)
    for name in tables:
        spec, snapshot = TABLES[name], store.open(name)
        order = [(column, "ascending") for column in spec.sort_by]
        for number, videos in enumerate(layout):
            block = block_of(Path(corpus), videos)
            rows = rows_of(name, block, prints).sort_by(order).combine_chunks()
            note: object = {}
            if name in DATA_TABLES:
                note = note_shards(_shards(block, {name: prints[name]}))
            elif name == "shards":
                note = note_covers(dict.fromkeys(DATA_TABLES, version + 1 + number))
            delta.write(snapshot, spec, rows, _ids(name, block, prints), note)


def _ids(name: str, block: Block, prints: dict[str, str]) -> list[str]:
    """The ids that guard the commit."""
    from pipeline.records import shard_id

    if name == "videos":
        return [f"{_RUN_ID}-{block.first}"]
    if name == "indexes":
        return [f"index-{video[:24]}" for video in block.ids]
    chosen = prints.values() if name == "shards" else [prints[name]]
    return [shard_id(fingerprint, video, 0) for fingerprint in chosen for video in block.ids]


def rows_of(name: str, block: Block, prints: dict[str, str]) -> pa.Table:
    """The rows of a table for the videos of a block, video by video."""
    from pipeline.ledger.schema import plain

    if name == "shards":
        return _shards(block, prints)
    make = {"videos": _videos, "indexes": _indexes, "frames": _frames}
    if name in make:
        columns = make[name](block)
    else:
        columns = _detections(block) if name == "detections" else _embeddings(block)
    if name in prints:
        columns |= {"analysis": prints[name]}
    schema = plain(name)
    columns |= {"run_id": _RUN_ID}
    length = max(len(v) for v in columns.values() if not isinstance(v, (str, int, float, bool)))
    return pa.table(
        [_array(columns.get(field.name), field.type, length) for field in schema], schema=schema
    )


def _array(value: object, kind: pa.DataType, length: int) -> pa.Array:
    if value is None or isinstance(value, (str, int, float, bool)):
        return pa.array([value], kind).take(pa.array(np.zeros(length, np.int64)))
    return value.cast(kind) if isinstance(value, pa.Array) else pa.array(value, kind)


def _lists(values: np.ndarray) -> pa.Array:
    """One list per row of a two-dimensional array."""
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel()))


def _videos(block: Block) -> dict[str, object]:
    times = _START_US + block.first + np.arange(len(block))
    return {
        "video_id": block.ids,
        "uri": block.names,
        "stamp": block.stamp,
        "size_bytes": 0,
        "container": "mov,mp4",
        "codec": "h264",
        "width": 1280,
        "height": 720,
        "rotation": 0,
        "stream_index": 0,
        "time_base": "1/30000",
        "frame_count": FRAMES,
        "duration_s": FRAMES * 1001 / 30000,
        "status": "ok",
        "reason": "",
        "recorded_at": times,
    }


def _indexes(block: Block) -> dict[str, object]:
    return {
        "video_id": block.ids,
        "frame_count": FRAMES,
        "pts": _lists(np.tile(np.arange(FRAMES) * 1001, (len(block), 1))),
        "keyframes": _lists(np.tile(np.arange(0, FRAMES, 50), (len(block), 1))),
        "time_base": "1/30000",
        "stream_index": 0,
        "container": "mov,mp4",
        "codec": "h264",
        "pixel_format": "yuv420p",
        "width": 1280,
        "height": 720,
        "rotation": 0,
        "duration_s": FRAMES * 1001 / 30000,
        "exact_pts": True,
        "expected_frames": FRAMES,
        "damage": "",
    }


def _of_frames(block: Block) -> tuple[list[str], np.ndarray]:
    """(video_id, frame_index) of every sampled frame of the block."""
    sampled = np.arange(0, FRAMES, STRIDE)
    return list(np.repeat(block.ids, len(sampled))), np.tile(sampled, len(block))


def _frames(block: Block) -> dict[str, object]:
    ids, frames = _of_frames(block)
    return {
        "video_id": ids,
        "frame_index": frames,
        "pts": frames * 1001,
        "pts_s": frames * 1001 / 30000,
        "is_keyframe": frames % 50 == 0,
        "width": 1280,
        "height": 720,
        "clip_index": 0,
        "status": "ok",
    }


def _detections(block: Block) -> dict[str, object]:
    count = len(block) * BOXES
    return {
        "video_id": list(np.repeat(block.ids, BOXES)),
        "frame_index": np.zeros(count, np.int64),
        "pts_s": 0.0,
        "detection_index": np.tile(np.arange(BOXES, dtype=np.int32), len(block)),
        "x1": 10.0,
        "y1": 20.0,
        "x2": 110.0,
        "y2": 220.0,
        "score": 0.75,
        "class_id": 1,
        "class_name": "thing",
    }


def _embeddings(block: Block) -> dict[str, object]:
    ids, frames = _of_frames(block)
    values = np.full((len(ids), DIMENSIONS), DIMENSIONS**-0.5, np.float32)
    return {
        "video_id": ids,
        "frame_index": frames,
        "pts_s": frames * 1001 / 30000,
        "embedding": _lists(values),
    }


def _shards(block: Block, prints: dict[str, str]) -> pa.Table:
    from pipeline.ledger.schema import plain
    from pipeline.records import shard_id

    schema = plain("shards")
    sampled = len(range(0, FRAMES, STRIDE))
    parts = []
    for name, fingerprint in prints.items():
        columns = {
            "shard_id": [shard_id(fingerprint, video, 0) for video in block.ids],
            "video_id": block.ids,
            "analysis": fingerprint,
            "shard_index": 0,
            "shard_count": 1,
            "first_frame": 0,
            "last_frame": (sampled - 1) * STRIDE,
            "frames": sampled,
            "rows": BOXES if name == "detections" else sampled,
            "run_id": _RUN_ID,
        }
        arrays = [_array(columns[field.name], field.type, len(block)) for field in schema]
        parts.append(pa.table(arrays, schema=schema))
    return pa.concat_tables(parts)


def config() -> Config:
    """Three analyses: frames, detector and embedder."""
    return load_config(CONFIG, (f"sampling.stride={STRIDE}",))


# -- measuring ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """What a process took."""

    seconds: float
    cpu_s: float
    """User and system time of all its threads: what other work on the machine changes less."""
    peak_bytes: int
    stdout: str


_WATCHED = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
seconds, cpu = time.perf_counter() - started, used.ru_utime + used.ru_stime
print(json.dumps([done.returncode, seconds, cpu, used.ru_maxrss * 1024, done.stdout]))
"""
"""Started by a small process: Linux counts into a child's peak what its parent held at the fork."""


def timed(command: list[str]) -> Cost:
    """Run a command in a process of its own. Raises RuntimeError where it fails."""
    watch = [sys.executable, "-c", _WATCHED, *command]
    found = subprocess.run(watch, stdout=subprocess.PIPE, text=True, check=True)
    code, *cost = json.loads(found.stdout)
    if code:
        raise RuntimeError(f"{' '.join(command)}: exit {code}")
    return Cost(*cost)


_LOOKUP = """
import json, resource, sys, time
import deltalake, pyarrow.dataset, pyarrow.parquet  # whose loading is no part of a lookup
from pipeline.ledger.reader import Ledger
output, one, other, kind = sys.argv[1:]
def look(ledger, uri):
    started, used = time.perf_counter(), time.process_time()
    ledger().frame(uri, 0) if kind == "frame" else ledger().index(uri)
    return time.perf_counter() - started, time.process_time() - used
ledger = Ledger(output)
print(json.dumps([look(lambda: Ledger(output), one), min(
    look(lambda: ledger, uri) for uri in (one, other, one, other)
)]))
"""


def measure(output: Path, corpus: Path, videos: int) -> dict[str, Cost]:
    """The least seconds of some rounds, and the largest peak."""
    program = [sys.executable, "-m", "pipeline"]
    given = [CONFIG, str(corpus), "--output", str(output), "--set", f"sampling.stride={STRIDE}"]
    found: dict[str, Cost] = {}
    commands = {
        "frameledger plan, nothing to do": [*program, "plan", *given],
        "frameledger run, nothing to do": [*program, "run", *given],
        "frameledger status": [*program, "status", str(output)],
    }
    for name, command in commands.items():
        costs = [timed(command) for _ in range(ROUNDS)]
        assert f"{videos:,}" in costs[0].stdout, costs[0].stdout
        found[name] = _best(costs)
    one, other = name_of(corpus, videos // 3), name_of(corpus, videos // 2)
    for kind in ("frame", "index"):
        command = [sys.executable, "-c", _LOOKUP, str(output), one, other, kind]
        whole = [timed(command) for _ in range(ROUNDS)]
        both = [json.loads(cost.stdout) for cost in whole]
        for place, name in enumerate(("in a new process", "again")):
            costs = [
                Cost(*each[place], cost.peak_bytes, "")
                for each, cost in zip(both, whole, strict=True)
            ]
            found[f"Ledger.{kind}, {name}"] = _best(costs)
    return found


def _best(costs: list[Cost]) -> Cost:
    seconds, cpu_s = (min(getattr(c, name) for c in costs) for name in ("seconds", "cpu_s"))
    return Cost(seconds, cpu_s, max(cost.peak_bytes for cost in costs), "")


def tidy(output: Path) -> None:
    """Few files in the order of their videos, as compaction leaves them."""
    from pipeline.ledger.delta import writer_properties
    from pipeline.ledger.schema import TABLES
    from pipeline.ledger.store import Store

    store = Store(str(output))
    for name, spec in TABLES.items():
        snapshot = store.open(name)
        if snapshot.file_uris():
            snapshot.optimize.z_order(
                [spec.sort_by[0]],
                target_size=_TIDY_BYTES,
                writer_properties=writer_properties(spec),
            )


def make(root: Path, videos: int) -> None:
    """The corpus and both outputs."""
    corpus = root / "videos"
    shutil.rmtree(root, ignore_errors=True)
    with _said(f"{videos:,} source files"):
        make_corpus(corpus, videos)
    tail = min(videos // 10, TAIL_COMMITS * COMMIT_VIDEOS)
    body, rest = range(videos - tail), range(videos - tail, videos)
    with _said("output with a compacted body"):
        make_tables(root / "compacted", corpus, ranges(body, _BODY_COMMIT_VIDEOS))
        tidy(root / "compacted")
        make_tables(root / "compacted", corpus, ranges(rest, COMMIT_VIDEOS))
    each = max(COMMIT_VIDEOS, videos // NEVER_COMPACTED_COMMITS)
    with _said(f"output in commits of {each:,} videos, never compacted"):
        make_tables(root / "never-compacted", corpus, ranges(range(videos), each))
    (root / "made").touch()


@contextmanager
def _said(what: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - started:,.0f} s", flush=True)


def books(work: Path, _videos: Path | None, count: int = VIDEOS) -> None:
    """Print the tables; what was made stays for the next time.

    Args:
        work: where everything is made.
        count: videos of the corpus.
    """
    root = (work / f"books-{count}").resolve()
    if not (root / "made").exists():
        make(root, count)
    for name in ("compacted", "never-compacted"):
        output = root / name
        costs = measure(output, root / "videos", count)
        rows = [
            (what, f"{cost.seconds:.2f}", f"{cost.cpu_s:.2f}", f"{cost.peak_bytes / 2**20:,.0f}")
            for what, cost in costs.items()
        ]
        files, size = held(output)
        title = f"Books of {count:,} videos, {name}: {files:,} files, {size / 1e9:.1f} GB"
        table(title, ("what", "s", "CPU s", "peak MiB"), rows)


def held(output: Path) -> tuple[int, int]:
    """(files of the tables as they are now, their bytes)."""
    from pipeline.ledger.status import status

    found = status(str(output))
    return found.files, found.size_bytes
