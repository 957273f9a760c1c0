"""WebDataset: tar shards of samples, each a picture, its boxes as JSON and its embedding as npy.

frames-000000.tar    NAME-000041.jpg  NAME-000041.json  NAME-000041.npy  NAME-000042.jpg ...
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.results.export.job import Counts, Job, boxes_of, folder_name
from pipeline.results.export.target import new_folder

if TYPE_CHECKING:
    from pipeline.ledger.frame import Frame

SHARD_FRAMES = 1000


def export(job: Job) -> Counts:
    """Write the folder. Frames that could not be decoded are not in it, and a frame without an
    embedding has no .npy."""
    counts = Counts()
    videos = job.videos()
    with new_folder(job.path, job.overwrite) as folder, ExitStack() as last:
        for frame, picture in job.frames(counts):
            if (counts.frames - 1) % SHARD_FRAMES == 0:
                last.close()
                shard = last.enter_context(_shard(folder, counts.frames // SHARD_FRAMES))
            uri = videos.uri(frame.video_id)
            # Readers take what follows the first dot for the ending.
            key = f"{folder_name(frame.video_id, uri)}-{frame.frame_index:09d}"
            for ending, content in _parts(job, frame, uri, picture):
                _add(shard, f"{key}.{ending}", content)
        last.close()
        (folder / "about.json").write_text(json.dumps(job.about(), indent=2), encoding="utf-8")
    return counts


def _parts(
    job: Job, frame: Frame, uri: str | None, picture: bytes | None
) -> Iterator[tuple[str, bytes]]:
    if picture is not None:
        yield str(job.pictures), picture
    names = ("pts", "pts_s", "is_keyframe", "width", "height")
    about = {"video_id": frame.video_id, "uri": uri, "frame_index": frame.frame_index}
    about |= {name: frame.row[name] for name in names} | {"boxes": boxes_of(frame)}
    yield "json", json.dumps(about).encode()
    if frame.embedding is not None:
        file = io.BytesIO()
        np.save(file, frame.embedding)
        yield "npy", file.getvalue()


def _shard(folder: Path, number: int) -> tarfile.TarFile:
    return tarfile.open(folder / f"frames-{number:06d}.tar", "w")


def _add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    shard.addfile(entry, io.BytesIO(content))
