"""Which video is meant by what a user types."""

from __future__ import annotations

import os
import string
from typing import TYPE_CHECKING

from pipeline.errors import UsageError
from pipeline.sources.discover import readable

if TYPE_CHECKING:
    from pipeline.ledger.reader import Ledger

LEAST_ID = 6
"""Hex digits of a video_id that may stand for it."""
_SHOWN = 3


def find_video(ledger: Ledger, name: str) -> str:
    """The uri or video_id of the video that `name` is, as the ledger's methods take it.

    Args:
        name: a uri or path, a video_id or the beginning of one, or a file's last name; whichever
            fits first, and fits one content only.

    Raises UsageError, with what is near, where none or several fit.
    """
    import pyarrow.compute as pc

    name = readable(name)
    here = os.path.abspath(name)
    exact = ledger.table("videos", ["uri"], pc.field("uri").isin([name, here])).column("uri")
    if len(exact):
        return name if name in exact.to_pylist() else here
    uri, video_id = pc.field("uri"), pc.field("video_id")
    if len(name) >= LEAST_ID and set(name) <= set(string.hexdigits):
        rows = ledger.table("videos", ["video_id"], pc.starts_with(video_id, name.lower()))
        ids = sorted(set(rows.column("video_id").to_pylist()))
        if len(ids) == 1:
            return str(ids[0])
        if ids:
            raise UsageError(_several(ledger, name, ids))
    if name and os.sep not in name:
        named = pc.ends_with(uri, f"/{name}") & video_id.is_valid()
        found = ledger.table("videos", ["uri", "video_id"], named).to_pylist()
        # A file that has changed since is there with each content that it had.
        uris = sorted({row["uri"] for row in found})
        if len(uris) == 1 or len({row["video_id"] for row in found}) == 1:
            return str(uris[0])
        if uris:
            raise UsageError(_several(ledger, name, uris))
    ledger.index(name)  # Knows how to say what is near.
    return name


def _several(ledger: Ledger, name: str, found: list[str]) -> str:
    shown = ", ".join(found[:_SHOWN]) + (" ..." if len(found) > _SHOWN else "")
    return f"{ledger.output}: {name} fits {len(found):,} videos: {shown}; name one of them in full"
