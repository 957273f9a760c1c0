"""Reading the tables of a ten-hour video: frames at random, all embeddings, all frames joined."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.books import timed
from benchmarks.measure import table

HOURS, RATE, DIMENSIONS, BOXES = 10, 30, 512, 3
URI = "/videos/ten-hours.mp4"
ACCESSES = 300

_ACCESS = """
import json, sys, time
import numpy as np
from pipeline import Ledger
output, uri, frames, accesses = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
ledger = Ledger(output)
rng = np.random.default_rng(1)
for index in rng.integers(0, frames, 20):
    ledger.frame(uri, int(index))
times, spent = [], time.process_time()
for index in rng.integers(0, frames, accesses):
    started = time.perf_counter()
    frame = ledger.frame(uri, int(index))
    times.append(time.perf_counter() - started)
    assert frame.embedding is not None and frame.embedding[0] == np.float32(index)
spent = 1000 * (time.process_time() - spent) / accesses
print(json.dumps([spent, *(float(1000 * np.quantile(times, q)) for q in (0.5, 0.95, 1))]))
"""
_NOTHING = """
import sys
from pipeline import Ledger
Ledger(sys.argv[1]).analyses()
print(sys.argv[2])
"""
_EMBEDDINGS = """
import sys
from pipeline import Ledger
columns = ["frame_index", "embedding"]
print(sum(len(batch) for batch in Ledger(sys.argv[1]).batches("embeddings", columns)))
"""
_JOINED = """
import sys
from pipeline import Ledger
print(sum(len(batch) for batch in Ledger(sys.argv[1]).frame_batches()))
"""


def reading(work: Path, _videos: Path | None, hours: int = HOURS) -> None:
    """Print the tables; what was made stays for the next time."""
    root = (work / f"reading-{hours}h").resolve()
    for name in ("as committed", "after gc"):
        output = root / name.replace(" ", "-")
        if not output.exists():
            temporary = root / "making"
            make(temporary, hours * 3600 * RATE)
            if name == "after gc":
                command = [sys.executable, "-m", "pipeline", "gc", str(temporary), "--grace", "0"]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            temporary.rename(output)
        report(name, output, hours * 3600 * RATE)


def report(name: str, output: Path, frames: int) -> None:
    """Measure each way of reading in a process of its own."""
    python = [sys.executable, "-c"]
    given = [_ACCESS, str(output), URI, str(frames), str(ACCESSES)]
    access = timed([*python, *given])
    costs = (f"{ms:.1f}" for ms in json.loads(access.stdout))
    title = f"Reading a {frames / RATE / 3600:g}-hour video, {frames:,} frames, {name}"
    header = ("Ledger.frame, warm: CPU ms", "median ms", "95 %", "worst", "peak MiB")
    table(title, header, [(*costs, f"{access.peak_bytes / 2**20:,.0f}")])
    rows = []
    programs = {
        "nothing: the Ledger is open": _NOTHING,
        "embeddings": _EMBEDDINGS,
        "frames joined": _JOINED,
    }
    for what, program in programs.items():
        cost = timed([*python, program, str(output), str(frames)])
        assert int(cost.stdout) == frames, cost.stdout
        rows.append((what, f"{cost.seconds:.1f}", f"{cost.peak_bytes / 2**20:,.0f}"))
    table(f"Streaming all of it, {name}", ("what", "s", "peak MiB"), rows)


def make(output: Path, frames: int) -> None:
    """The tables as a run would have written them: a commit for 64 MiB of rows."""
    from pipeline.ledger.commit import LedgerWriter
    from pipeline.records import Analysis, ClipResult, ShardEnd, Source, VideoIndex, VideoOutcome
    from pipeline.sources.plan import Grid, plan_video

    grid = Grid(sampling={"stride": 1}, length=32, step=32)
    kept = Analysis("frames", "frames", grid.identity())
    boxes = Analysis("detector", "detections", {"frames": kept.fingerprint})
    vectors = Analysis("embedder", "embeddings", {"frames": kept.fingerprint})
    analyses = {one.fingerprint: one for one in (kept, boxes, vectors)}
    index = VideoIndex(
        video_id="0123456789abcdef" * 4,
        pts=np.arange(frames, dtype=np.int64) * 512,
        keyframes=np.arange(0, frames, 250, dtype=np.int64),
        time_base=Fraction(1, 15360),
        stream_index=0,
        container="mov,mp4",
        codec="h264",
        pixel_format="yuv420p",
        width=1280,
        height=720,
        rotation=0,
        duration_s=frames / RATE,
        exact_pts=True,
    )
    source = Source(URI, "1:1", 1)
    with LedgerWriter(str(output), "bench", analyses) as writer:
        writer.add_index(index)
        for task in plan_video(source, index, grid):
            writer.begin(replace(task, analyses=tuple(analyses)), 1)
            for clip in task.shard.clips:
                at = np.arange(clip.own_start, clip.own_stop)
                sizes = np.tile(np.array([[1280, 720]], np.int32), (len(at), 1))
                rows = {boxes.fingerprint: _boxes(at), vectors.fingerprint: _vectors(at)}
                writer.add_result(ClipResult(task.key, 1, clip, at, sizes, rows, 0.01))
            writer.add_end(ShardEnd(task.key, 1, len(task.shard.clips), (), ""))
        writer.add_video(VideoOutcome(source, index, "ok"))


def _boxes(positions: np.ndarray) -> pa.Table:
    from pipeline.analyzers.columns import detections_table

    rng = np.random.default_rng(int(positions[0]))
    count = len(positions) * BOXES
    corners = rng.uniform(0, 700, (count, 2))
    corners = np.concatenate([corners, corners + rng.uniform(1, 500, (count, 2))], axis=1)
    rows = detections_table(
        np.repeat(positions, BOXES),
        corners.astype(np.float32),
        rng.random(count, np.float32),
        rng.integers(0, 80, count),
        {},
    )
    return rows.rename_columns(["position", *rows.column_names[1:]])


def _vectors(positions: np.ndarray) -> pa.Table:
    """At random, but for the first value: it tells whose the vector is."""
    from pipeline.analyzers.columns import embeddings_table

    rng = np.random.default_rng(int(positions[0]))
    values = rng.standard_normal((len(positions), DIMENSIONS), np.float32)
    values[:, 0] = positions
    rows = embeddings_table(values)
    return pa.table([pa.array(positions), rows.column("embedding")], ["position", "embedding"])
