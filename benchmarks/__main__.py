"""`python -m benchmarks [NAME ...]`: print the tables that the README quotes.

`books` and `reading` are left out where no name is given: they are slow, and take some GB of disk.
So is `overhead`, which needs the project's history.
`search` takes 22 GB for its largest corpus, less where they are not there, and gives them back.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from benchmarks.books import VIDEOS as BOOKS_VIDEOS
from benchmarks.books import books
from benchmarks.caching import caching
from benchmarks.crash import crash
from benchmarks.formats import formats
from benchmarks.memory import memory
from benchmarks.models import models
from benchmarks.overhead import SPINE, overhead
from benchmarks.reading import reading
from benchmarks.sam2_memory import sam2_memory
from benchmarks.scaling import scaling
from benchmarks.search import search
from benchmarks.search_index import search_index
from benchmarks.search_quality import quality
from benchmarks.throughput import throughput
from benchmarks.tracking import tracking

TABLES = {
    "throughput": throughput,
    "memory": memory,
    "crash": crash,
    "models": models,
    "scaling": scaling,
    "cache": caching,
    "tracking": tracking,
    "sam2-memory": sam2_memory,
    "formats": formats,
    "search": search,
    "search-quality": quality,
    "search-index": search_index,
}
WORK = Path("bench-output")
VIDEOS = Path("../shared/videos")
"""Real videos; the demo world's are used where the folder is absent."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(TABLES)}, books, reading, overhead"
    )
    parser.add_argument("--videos", type=int, default=BOOKS_VIDEOS, help="of books")
    parser.add_argument("--against", metavar="REV", default=SPINE, help="of overhead")
    options = parser.parse_args()
    tables = {
        **TABLES,
        "books": partial(books, count=options.videos),
        "reading": reading,
        "overhead": partial(overhead, against=options.against),
    }
    unknown = [name for name in options.names if name not in tables]
    if unknown:
        sys.exit(f"unknown benchmark {unknown[0]}; there are {', '.join(tables)}")
    WORK.mkdir(exist_ok=True)
    for name in options.names or TABLES:
        tables[name](WORK, VIDEOS if VIDEOS.is_dir() else None)


if __name__ == "__main__":
    main()
