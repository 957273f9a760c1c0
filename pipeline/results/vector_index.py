"""A vector index over embeddings: it says which row groups a search need look into.

    build     of every row group the frames that differ from the ones before -> an HNSW graph of
              int8 vectors (usearch)
    search    the nearest to the query, by the graph -> the row groups that they lie in
              these, and the files that have come since, are searched exactly

So scores and the ends of moments are exact; what is approximate is that a moment may be missed, and
of one that lies in several row groups the best frame is that of those which were looked into.

Files never change: an index stays true of those that it names, rows of files that are gone are
looked for in those that have come in their place, and there is nothing to be out of date but the
time that a search takes.
"""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import RunAborted, UsageError
from pipeline.results.optional import load
from pipeline.results.ranking import best_moments
from pipeline.results.vectors import Vectors
from pipeline.storage.own_folder import alone
from pipeline.storage.uris import is_remote

if TYPE_CHECKING:
    from pipeline.ledger.analyses import RecordedAnalysis
    from pipeline.ledger.reader import Ledger
    from pipeline.results.moments import Moment
    from pipeline.results.ranking import Wanted

FOLDER = "vector-index"
"""Below the output, beside the tables."""
CONNECTIVITY, EXPANSION_ADD, EXPANSION_SEARCH = 16, 64, 512
"""Of the graph (Malkov and Yashunin, arXiv:1603.09320): M, efConstruction, ef."""
SAME = 0.95
"""Cosine from which a frame is not put into the graph beside the last one that was: it lies in the
same row group, and of many that are the same a graph finds its way no further."""
_LEAST, _FOR_A_MOMENT = 64, 8
"""Frames of the graph that are looked for: at least, and for each moment that is wanted."""
_ROW_BITS = 40
"""Of a key that hold the row in its file; the rest number the files."""


@dataclass(frozen=True)
class Named:
    """What an index is of."""

    graph: str
    """Name of its file."""
    analysis: str
    files: tuple[str, ...]
    """Below `embeddings`, in the order of their numbers."""
    rows: int
    """Of these files; the graph has fewer."""


@dataclass(frozen=True)
class Built:
    """What building came to."""

    rows: int
    added: int
    """Rows that were not in it before."""
    nodes: int
    """Of the graph."""
    size_bytes: int
    path: str


def build_index(ledger: Ledger, analysis: RecordedAnalysis) -> Built:
    """Index the embeddings of an analysis; an index that is there gets what has come since.

    It is built anew where files that it names are gone, or it is damaged. Appears when it is
    whole. Raises UsageError for an output on a store, or without usearch; RunAborted where it
    cannot be written.
    """
    usearch = _usearch("frameledger index")
    folder = _folder(ledger)
    vectors = Vectors(ledger, analysis)
    if not vectors.dimensions:
        raise UsageError(f"{ledger.output}: there are no embeddings to index")
    try:
        folder.mkdir(exist_ok=True)
        # Of two at once the second adds to what the first has made.
        with alone(str(folder)):
            return _build(usearch, folder, vectors, analysis.fingerprint)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunAborted(f"{folder}: the index cannot be written: {reason}") from error


def _build(usearch: Any, folder: Path, vectors: Vectors, analysis: str) -> Built:
    paths = vectors.files
    before = _named(folder, analysis)
    if before is not None and not set(before.files) <= set(paths):
        before = None
    graph = _graph(usearch, vectors.dimensions)
    if before is not None:
        try:
            graph.load(str(folder / before.graph))
        except RuntimeError:
            before, graph = None, _graph(usearch, vectors.dimensions)
    files = list(before.files) if before is not None else []
    known = set(files)
    added = 0
    for path in (path for path in paths if path not in known):
        first = len(files) << _ROW_BITS
        files.append(path)
        for row, block in vectors.of_file(path):
            places = unlike(block.vectors)
            graph.add((first + row + places).astype(np.uint64), block.vectors[places])
            added += len(block.vectors)
    name = f"{analysis}-{uuid.uuid4().hex[:8]}.usearch"
    rows = added + (before.rows if before is not None else 0)
    named = Named(name, analysis, tuple(files), rows)
    if added or before is None:
        _publish(folder, named, graph)
    else:
        named = before
    size = (folder / named.graph).stat().st_size
    return Built(rows, added, len(graph), size, str(folder / named.graph))


def _graph(usearch: Any, dimensions: int) -> Any:
    return usearch.Index(
        ndim=dimensions,
        metric="cos",
        dtype="i8",
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION_ADD,
    )


def unlike(vectors: np.ndarray) -> np.ndarray:
    """int64: rows that are less than `SAME` like the last such row before them; the first is one.

    Args:
        vectors: float32 (n, dimensions), of unit length.
    """
    places: list[int] = []
    last = None
    for at, vector in enumerate(vectors):
        # Not `<`: of a vector that is no number nothing is known.
        if last is None or not vector @ last >= SAME:
            places.append(at)
            last = vector
    return np.array(places, np.int64)


class VectorIndex:
    """An index that is there, its graph mapped into memory."""

    def __init__(self, folder: Path, named: Named) -> None:
        self.named = named
        usearch = _usearch("frameledger search --approximate")
        self._graph = usearch.Index.restore(str(folder / named.graph), view=True)
        if self._graph is None:
            raise ValueError("is no index")
        self._graph.expansion_search = EXPANSION_SEARCH

    def search(self, vectors: Vectors, wanted: Wanted) -> list[Moment]:
        """As `best_moments`, of the row groups that the graph leads to and of newer files."""
        newer: dict[str, np.ndarray | None] = dict.fromkeys(self.newer(vectors))
        count = max(_LEAST, _FOR_A_MOMENT * wanted.k)
        while True:
            found = best_moments(vectors.only({**newer, **self._near(wanted.query, count)}), wanted)
            if len(found) >= wanted.k or count >= len(self._graph):
                return found
            # Of what lies near, much was of the same moments, or superseded.
            count *= 4

    def newer(self, vectors: Vectors) -> list[str]:
        """Files that it does not name."""
        known = set(self.named.files)
        return [path for path in vectors.files if path not in known]

    def _near(self, query: np.ndarray, count: int) -> dict[str, np.ndarray]:
        """Rows (int64) by file of the vectors nearest to the query."""
        # Of as many as are asked for, room is made for each.
        count = min(count, len(self._graph))
        self._graph.expansion_search = max(EXPANSION_SEARCH, count)
        keys = self._graph.search(query, count).keys.astype(np.int64)
        numbers, rows = keys >> _ROW_BITS, keys & ((1 << _ROW_BITS) - 1)
        return {self.named.files[at]: rows[numbers == at] for at in np.unique(numbers).tolist()}


def open_index(ledger: Ledger, analysis: RecordedAnalysis) -> VectorIndex:
    """The index of an analysis' embeddings. Raises UsageError where there is none."""
    folder = _folder(ledger)
    try:
        named = _named(folder, analysis.fingerprint)
        if named is not None:
            return VectorIndex(folder, named)
    except (OSError, RuntimeError, ValueError) as error:
        # Made anew a moment ago, or damaged.
        raise UsageError(
            f"{folder}: the index cannot be opened ({' '.join(str(error).split())}); try again, "
            f"or make it anew with `frameledger index {ledger.output}`"
        ) from None
    raise UsageError(
        f"{ledger.output}: has no index of embeddings {analysis.fingerprint}; make one with "
        f"`frameledger index {ledger.output}`, or search without --approximate"
    )


def _folder(ledger: Ledger) -> Path:
    if is_remote(ledger.output):
        raise UsageError(f"{ledger.output}: an index can be made of an output on a disk only")
    return Path(ledger.output) / FOLDER


def _named(folder: Path, fingerprint: str) -> Named | None:
    try:
        said: dict[str, Any] = json.loads((folder / f"{fingerprint}.json").read_text())
        named = Named(**{**said, "files": tuple(said["files"])})
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None  # Not there, or cut by a machine that went down: it is made anew.
    return named if (folder / named.graph).exists() else None


def _publish(folder: Path, named: Named, graph: Any) -> None:
    try:
        graph.save(str(folder / named.graph))
    except RuntimeError as error:
        raise OSError(str(error)) from error
    new = folder / f"{named.graph}.json"
    new.write_text(json.dumps(asdict(named)))
    os.replace(new, folder / f"{named.analysis}.json")
    for old in folder.glob(f"{named.analysis}-*.usearch"):
        if old.name != named.graph:
            old.unlink()


def _usearch(purpose: str) -> Any:
    load("usearch", "usearch", purpose)
    return load("usearch.index", "usearch", purpose)
