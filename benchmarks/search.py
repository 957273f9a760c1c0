"""Searching: seconds against reading the same column, exactness, and the peak of memory.

search_making   embeddings of the wanted number, in a real output
measure         reading and searching, each in a fresh process
compare         what was found, with NumPy over the same vectors made again
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np

from benchmarks.books import timed
from benchmarks.measure import table
from benchmarks.search_making import BYTES_A_ROW, DIMENSIONS, FRAMES, chunks, make, query, video_id

ROWS = 1_000_000
LARGE_ROWS = 10_000_000
K = 20
ROUNDS = 3
SPARE_BYTES = 10 * 2**30

_READ = """
import sys, time
import pyarrow.dataset
from pipeline.ledger.reader import Ledger
dataset = Ledger(sys.argv[1]).dataset("embeddings")
rows, started = 0, time.perf_counter()
for batch in dataset.to_batches(columns=["embedding"], use_threads=True):
    rows += batch.num_rows
print(time.perf_counter() - started, rows)
"""
_READ_GROUPS = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
import pyarrow.dataset, pyarrow.parquet
from pipeline.ledger.reader import Ledger
dataset, started = Ledger(sys.argv[1]).dataset("embeddings"), time.perf_counter()
def read(fragment):
    file = pyarrow.parquet.ParquetFile(fragment.open())
    groups = range(file.num_row_groups)
    return sum(file.read_row_group(g, ["embedding"], use_threads=False).num_rows for g in groups)
with ThreadPoolExecutor(cpu_count()) as pool:
    rows = sum(pool.map(read, dataset.get_fragments()))
print(time.perf_counter() - started, rows)
"""
_SEARCH = """
import json, sys, time
import numpy, deltalake, pyarrow.parquet, pyarrow.dataset
from pipeline.results.search import search
vector = numpy.load(sys.argv[2])
near = float(sys.argv[3]) if sys.argv[3] else None
started = time.perf_counter()
hits = search(sys.argv[1], vector=vector, k=int(sys.argv[4]), near=near)
print(time.perf_counter() - started, json.dumps([hit.as_dict() for hit in hits]))
"""


def search(work: Path, _videos: Path | None, rows: int = ROWS, large: int = LARGE_ROWS) -> None:
    """Print a table for each corpus; what was made is removed again.

    Args:
        rows: vectors of the corpus that is searched for time and held against NumPy.
        large: of that which is searched for its peak of memory; fewer where the disk is full.
    """
    free = shutil.disk_usage(work).free - SPARE_BYTES
    sizes = [rows, min(large, free // BYTES_A_ROW // 1_000_000 * 1_000_000)]
    header = ("vectors", "what", "s", "CPU s", "peak MiB", "to reading")
    for count in sizes:
        if not 0 < count * BYTES_A_ROW <= free:
            print("search: the disk has no room for more vectors", file=sys.stderr)
            continue
        output = work / f"search-{count}"
        shutil.rmtree(output, ignore_errors=True)
        try:
            make(output, count)
            cells = _measured(work, output, count, check=count == rows)
            table(f"Search: exact, {DIMENSIONS} dimensions, k = {K}", header, cells)
        finally:
            shutil.rmtree(output, ignore_errors=True)


def _measured(work: Path, output: Path, count: int, check: bool) -> list[tuple[str, ...]]:
    vector = work / "query.npy"
    np.save(vector, query())
    rounds = ROUNDS if check else 1
    found = {}
    # In turn, so that whatever else the machine does meets all of them.
    commands = {
        "pyarrow reads the column: dataset": [sys.executable, "-c", _READ, str(output)],
        "pyarrow reads the column: row groups": [sys.executable, "-c", _READ_GROUPS, str(output)],
    }
    for what, near in (("search, moments merged", "0.95"), ("search, frame by frame", "")):
        commands[what] = [sys.executable, "-c", _SEARCH, str(output), str(vector), near, str(K)]
    for _ in range(rounds):
        for what, command in commands.items():
            cost = timed(command)
            seconds, _, rest = cost.stdout.partition(" ")
            before = found.get(what)
            if before is None or float(seconds) < before[0]:
                found[what] = float(seconds), cost, rest
    if check:
        compare(json.loads(found["search, frame by frame"][2]), count)
    # Of the two ways to use all cores, the faster.
    reading = min(seconds for what, (seconds, *_) in found.items() if what.startswith("pyarrow"))
    return [
        (
            f"{count:,}",
            what,
            f"{seconds:.2f}",
            f"{cost.cpu_s:.2f}",
            f"{cost.peak_bytes / 2**20:,.0f}",
            f"{seconds / reading:.2f}",
        )
        for what, (seconds, cost, _) in found.items()
    ]


def compare(hits: list[dict[str, object]], count: int) -> None:
    """Raise AssertionError where these are not the best by NumPy in float64, in their order."""
    best: list[tuple[float, str, int]] = []
    wanted = query().astype(np.float64)
    for first, vectors in chunks(count):
        scores = (vectors.astype(np.float64) @ wanted).astype(np.float32)
        for at in np.argsort(-scores, kind="stable")[:K].tolist():
            row = first + at
            best.append((-float(scores[at]), video_id(row // FRAMES), row % FRAMES))
        best = sorted(best)[:K]
    given = [(-float(h["score"]), h["video_id"], h["frame_index"]) for h in hits]  # type: ignore[arg-type]
    assert [g[1:] for g in given] == [b[1:] for b in best], (given, best)
    np.testing.assert_allclose([g[0] for g in given], [b[0] for b in best], rtol=0, atol=1e-7)
    print(f"the {K} best of {count:,} are those of NumPy, in the same order", flush=True)
