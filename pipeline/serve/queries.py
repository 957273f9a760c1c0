"""What the page shows, read from the Ledger, as plain values that become JSON."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from glob import escape
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import DecodeConfig
from pipeline.errors import FrameledgerError, UsageError
from pipeline.ledger.reader import Ledger
from pipeline.records import Source, VideoIndex
from pipeline.results.report_data import count_classes, timeline
from pipeline.serve import overlays
from pipeline.serve.catalog import Catalog
from pipeline.serve.kept import Kept
from pipeline.serve.media import GONE, why_not_played
from pipeline.serve.overlays import class_row
from pipeline.serve.refusal import Refusal
from pipeline.sources.discover import look
from pipeline.sources.files import find_content
from pipeline.tracks.summary import Summaries

MOST_FRAMES = 4096
"""Frames whose boxes are given at once."""
MOST_MASKED = 64
"""The same of masks: some hundred bytes for each box."""
_GLOB = "*?["


class Queries:
    """Questions about one output; may be asked from several threads."""

    def __init__(self, output: str, tell: Callable[[str], None]) -> None:
        """`tell`: see `make_app`. Raises UsageError where `output` is none."""
        self._output = output
        self._tell = tell
        self._local = threading.local()
        self._catalog = Kept(lambda: Catalog(self.ledger.videos()))
        self._overview = Kept(self._count)
        self._searching = threading.Lock()
        self._same = lru_cache(maxsize=256)(self._read_again)
        self.index_of = lru_cache(maxsize=64)(self._read_index)
        self._vector = lru_cache(maxsize=256)(self._embed)
        self._summaries = lru_cache(maxsize=16)(self._summarized)
        Ledger(output)

    @property
    def ledger(self) -> Ledger:
        """One for each thread: a table that is brought up to date is not for two of them."""
        found: Ledger | None = getattr(self._local, "ledger", None)
        if found is None:
            found = self._local.ledger = Ledger(self._output)
        return found

    @property
    def catalog(self) -> Catalog:
        return self._catalog.get()

    # -- the output -------------------------------------------------------------------

    def overview(self) -> dict[str, Any]:
        """Counts over everything."""
        return self._overview.get()

    def _count(self) -> dict[str, Any]:
        classes = [class_row(c.class_id, c.name, c.boxes) for c in count_classes(self.ledger)]
        durations = self.catalog.rows.column("duration_s")
        return {
            "name": "/".join(self._output.rstrip("/").split("/")[-2:]),
            "videos": self.catalog.counts(),
            "duration_s": pc.sum(durations).as_py() or 0.0,
            "frames": self._rows("frames"),
            "boxes": sum(one["boxes"] for one in classes),
            "classes": classes,
            "failures": self._rows("failures"),
        }

    def _rows(self, table: str) -> int:
        return sum(batch.num_rows for batch in self.ledger.batches(table, ["video_id"]))

    def videos(self, offset: int, limit: int, like: str) -> dict[str, Any]:
        """Videos in the order of their names."""
        rows, total = self.catalog.page(offset, limit, like)
        return {"total": total, "videos": [self._video(row) for row in rows]}

    def failures(self, offset: int, limit: int) -> dict[str, Any]:
        """Failures, the latest first."""
        columns = ["video_id", "uri", "stage", "reason", "first_frame", "last_frame"]
        columns += ["attempts", "run_id", "recorded_at"]
        rows, total = self.ledger.latest("failures", offset + limit, columns)
        found = []
        for row in rows.slice(offset, limit).to_pylist():
            here = row["video_id"] is not None and self.catalog.row(row["video_id"]) is not None
            row["name"] = self.catalog.name(row.pop("uri"))
            row["reason"] = self.catalog.told(row["reason"])
            row["recorded_at"] = row["recorded_at"].isoformat(timespec="seconds")
            found.append(row | {"video_id": row["video_id"] if here else None})
        return {"total": total, "failures": found}

    # -- one video --------------------------------------------------------------------

    def video(self, video_id: str) -> dict[str, Any]:
        """A video's row. Raises Refusal, 404, where no file has this content now."""
        return self._video(self._row(video_id))

    def source(self, video_id: str) -> Source:
        """The file of a video. Raises Refusal: 404, or 410 where it is gone or has other bytes."""
        row = self._row(video_id)
        try:
            # Asked each time: what this machine keeps of an object outlives that.
            now = look(row["uri"])
        except (FrameledgerError, OSError):
            raise Refusal(410, GONE) from None
        if now.stamp == row["stamp"]:
            return now
        if now.size_bytes != row["size_bytes"]:
            raise Refusal(410, GONE)  # Without reading all of it for each thumbnail.
        try:
            return self._same(video_id, now)
        except (FrameledgerError, OSError):
            raise Refusal(410, GONE) from None

    def _read_again(self, video_id: str, now: Source) -> Source:
        """A file that was copied or touched, where its bytes are the same. Raises VideoError where
        they are not."""
        return find_content(video_id, [(now.uri, "")], DecodeConfig(), "serve")

    def container(self, video_id: str) -> str:
        return str(self._row(video_id)["container"])

    def _row(self, video_id: str) -> dict[str, Any]:
        row = self.catalog.row(video_id)
        if row is None:
            raise Refusal(404, "no such video")
        return row

    def _video(self, row: dict[str, Any]) -> dict[str, Any]:
        shown = ("video_id", "codec", "width", "height", "rotation", "frame_count", "duration_s")
        played = why_not_played(row["container"] or "", row["codec"] or "")
        return {
            **{key: row[key] for key in (*shown, "status", "size_bytes")},
            "name": self.catalog.name(row["uri"]),
            "container": (row["container"] or "").split(",")[0],
            "reason": self.catalog.told(row["reason"] or ""),
            "not_played": played if row["video_id"] is not None else "",
        }

    def _read_index(self, video_id: str) -> VideoIndex:
        self._row(video_id)
        try:
            return self.ledger.index(video_id)
        except UsageError:
            raise Refusal(404, "this video has no index yet") from None

    def index(self, video_id: str) -> dict[str, Any]:
        """The pts of every frame as (step, how often) after the first: a constant frame rate is
        one pair, however long the video."""
        index = self.index_of(video_id)
        steps = np.diff(index.pts)
        begins = np.flatnonzero(np.diff(steps, prepend=steps[:1] - 1)) if len(steps) else steps
        lengths = np.diff(begins, append=len(steps))
        return {
            "frame_count": index.frame_count,
            "time_base": [index.time_base.numerator, index.time_base.denominator],
            "first_pts": int(index.pts[0]) if index.frame_count else 0,
            "steps": [[int(steps[at]), int(n)] for at, n in zip(begins, lengths, strict=True)],
            "exact_pts": index.exact_pts,
        }

    def boxes(self, video_id: str, start: int, stop: int) -> dict[str, Any]:
        """See `overlays.boxes`; and of the next three."""
        self._row(video_id)
        return overlays.boxes(self.ledger, video_id, start, stop)

    def masks(self, video_id: str, start: int, stop: int) -> dict[str, Any]:
        self._row(video_id)
        return overlays.masks(self.ledger, video_id, start, stop)

    def tracks(self, video_id: str, start: int, stop: int) -> dict[str, Any]:
        self._row(video_id)
        return overlays.tracks(self.ledger, video_id, start, stop)

    def track_masks(self, video_id: str, start: int, stop: int) -> dict[str, Any]:
        self._row(video_id)
        return overlays.track_masks(self.ledger, video_id, start, stop)

    def track_list(self, video_id: str, offset: int, limit: int) -> dict[str, Any]:
        """A video's tracks by id, each with its span."""
        self._row(video_id)
        rows = self._summaries(video_id).get()
        page = rows.slice(offset, limit).to_pylist()
        return {"total": rows.num_rows, "tracks": [overlays.track_row(row) for row in page]}

    def timeline(self, video_id: str, parts: int) -> dict[str, Any]:
        """Boxes per sampled frame over the time of a video, by class."""
        self._row(video_id)
        found = timeline(self.ledger, video_id, parts)
        if found is None:
            return {"parts": 0, "start_s": 0.0, "stop_s": 0.0, "classes": [], "failed": []}
        density = np.nan_to_num(found.boxes).round(3).tolist()
        return {
            "parts": len(found.failed),
            "start_s": found.start_s,
            "stop_s": found.stop_s,
            "classes": [
                class_row(c.class_id, c.name, c.boxes) | {"density": line}
                for c, line in zip(found.classes, density, strict=True)
            ],
            "failed": np.flatnonzero(found.failed).tolist(),
        }

    def _summarized(self, video_id: str) -> Kept[pa.Table]:
        return Kept(lambda: Summaries(self.ledger).of(video_id, embeddings=False))

    # -- search -----------------------------------------------------------------------

    def search_state(self) -> dict[str, Any]:
        """Whether texts can be searched for, and why not."""
        try:
            self._vector("a picture")
        except Refusal as refusal:
            return {"on": False, "reason": refusal.line}
        return {"on": True, "reason": ""}

    def search(
        self, text: str, k: int, class_name: str | None, min_score: float | None, video: str | None
    ) -> dict[str, Any]:
        """The best moments. Raises Refusal where nothing can be searched for."""
        from pipeline.results.search import search

        vector = self._vector(text)
        if class_name is not None and class_name not in {
            one["name"] for one in self.overview()["classes"]
        }:
            raise Refusal(404, "no such class was found here")
        try:
            with self._searching:
                hits = search(
                    self.ledger,
                    vector=vector,
                    k=k,
                    class_name=class_name,
                    min_score=min_score,
                    video=self._pattern(video) if video else None,
                )
        except UsageError as error:
            self._tell(f"search: {error}")
            raise Refusal(404, "nothing here has such a name or such boxes") from None
        return {"hits": [self._hit(hit.as_dict()) for hit in hits]}

    def _hit(self, hit: dict[str, Any]) -> dict[str, Any]:
        return hit | {"name": self.catalog.name(hit.pop("uri"))}

    def _pattern(self, name: str) -> str:
        """A glob over the names that the page shows; a part of a name stands for itself."""
        inner = name if set(name) & set(_GLOB) else f"*{name}*"
        return escape(self.catalog.folder) + inner

    def _embed(self, text: str) -> np.ndarray:
        from pipeline.results.query import embeddings_analysis, query_vector

        try:
            analysis = embeddings_analysis(self.ledger)
        except UsageError:
            raise Refusal(422, "search is off: this output has no embeddings") from None
        if analysis.identity.get("backend") == "probe":
            raise Refusal(422, "search is off: the probe's embeddings know no text")
        try:
            with self._searching:
                return query_vector(self.ledger, analysis, text)
        except FrameledgerError as error:
            self._tell(f"search: {error}")
            line = "search is off: the model of the embeddings is not here, or reads no text"
            raise Refusal(422, line) from None
