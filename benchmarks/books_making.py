"""Making a corpus for the books: real empty files, and the tables of runs that are through.

make_corpus     empty source files, real stamps        folders of 1,000
make_tables     synthetic rows of every table, in commits such as runs make
tidy            the same tables after compaction; a tail of small commits follows
"""

from __future__ import annotations

import multiprocessing as mp
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.books_rows import (
    FOLDER_FILES,
    RUN_ID,
    START_US,
    STRIDE,
    block_of,
    ids_of,
    name_of,
    rows_of,
    shards_of,
)
from pipeline.config import Config
from pipeline.config_file import load_config

COMMIT_VIDEOS = 200
"""Videos that share a commit: a run of short videos commits this many in half a minute."""
TAIL_COMMITS = 100
"""Commits since the last compaction."""
NEVER_COMPACTED_COMMITS = 1_000
_BODY_COMMIT_VIDEOS, _TIDY_BYTES = 10_000, 128 * 2**20
CONFIG = "configs/demo.yaml"
SETTING = f"sampling.stride={STRIDE}"


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


def make_corpus(corpus: Path, videos: int) -> None:
    """Empty files, so that a million of them cost nothing but their inodes; all of one mtime."""
    for number in range(videos):
        name = name_of(corpus, number)
        if number % FOLDER_FILES == 0:
            os.makedirs(os.path.dirname(name), exist_ok=True)
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o644))
        os.utime(name, ns=(START_US * 1000, START_US * 1000))


def ranges(videos: range, each: int) -> tuple[range, ...]:
    return tuple(videos[first : first + each] for first in range(0, len(videos), each))


def make_tables(output: Path, corpus: Path, layout: tuple[range, ...]) -> None:
    """All tables of the finished corpus; of each range of videos one commit to every table."""
    from pipeline.engine.job import analyses_of
    from pipeline.ledger.analyses import record_analyses
    from pipeline.ledger.creation import create_tables
    from pipeline.ledger.store import Store

    analyses = analyses_of(config())
    store = Store(str(output))
    create_tables(store)
    record_analyses(store, analyses, RUN_ID)
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
                note = note_shards(shards_of(block, {name: prints[name]}))
            elif name == "shards":
                note = note_covers(dict.fromkeys(prints, version + 1 + number))
            delta.write(store, snapshot, spec, rows, ids_of(name, block, prints), note)


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


def config() -> Config:
    """Three analyses: frames, detector and embedder."""
    return load_config(CONFIG, (SETTING,))
