"""The videos of an output as the page names them: by id, and by name from their common folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.records import Source


def common_folder(uris: list[str]) -> str:
    """The longest folder that all uris lie in, with its slash; empty where there is none."""
    if not uris:
        return ""
    first, last = min(uris), max(uris)
    at = 0
    while at < min(len(first), len(last)) and first[at] == last[at]:
        at += 1
    return first[: first.rfind("/", 0, at) + 1]


@dataclass(frozen=True)
class Catalog:
    """The current row of each uri, sorted by uri."""

    rows: pa.Table = field(repr=False)

    @cached_property
    def folder(self) -> str:
        ends = self.rows.column("uri")
        return common_folder([ends[0].as_py(), ends[-1].as_py()]) if len(ends) else ""

    @cached_property
    def _place(self) -> dict[str, int]:
        """Row of each content; of several files with the same bytes the first."""
        ids = self.rows.column("video_id").to_pylist()
        return {v: len(ids) - 1 - at for at, v in enumerate(reversed(ids)) if v is not None}

    def name(self, uri: str) -> str:
        """What a file is called here: nothing of the machine is in it that tells no two apart."""
        if self.folder and uri.startswith(self.folder):
            return uri[len(self.folder) :]
        return uri.rsplit("/", 1)[-1]

    def told(self, reason: str) -> str:
        """A reason without the folder that everything lies in."""
        return reason.replace(self.folder, "") if len(self.folder) > 1 else reason

    def row(self, video_id: str) -> dict[str, Any] | None:
        """The row of a content; None where no file has it now."""
        place = self._place.get(video_id)
        if place is None:
            return None
        found: dict[str, Any] = self.rows.slice(place, 1).to_pylist()[0]
        return found

    def source(self, video_id: str) -> Source | None:
        """The file that has a content."""
        row = self.row(video_id)
        return Source(row["uri"], row["stamp"], row["size_bytes"]) if row is not None else None

    def counts(self) -> dict[str, int]:
        """Videos by status."""
        counted = self.rows.column("status").value_counts().to_pylist()
        return {each["values"]: each["counts"] for each in counted}

    def page(self, offset: int, limit: int, like: str) -> tuple[list[dict[str, Any]], int]:
        """Rows from `offset` whose name contains `like`, whatever its case; and how many do."""
        rows = self.rows
        if like:
            names = pc.utf8_slice_codeunits(rows.column("uri"), len(self.folder))
            rows = rows.filter(pc.match_substring(names, like, ignore_case=True))
        return rows.slice(offset, limit).to_pylist(), rows.num_rows
