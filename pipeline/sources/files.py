"""A video's bytes, of the version that was discovered and of no other, wherever they lie.

A local file is held against its stamp before and behind. Of an object every read says which
version it is of; it comes through the node's cache: as a local file where that has all of it, else
by ranges.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, BinaryIO, TypeAlias, cast

from pipeline.errors import VideoError, is_systemic
from pipeline.records import Source
from pipeline.sources.discover import look, stamp_of
from pipeline.sources.limits import above
from pipeline.sources.memory_cap import uncapped
from pipeline.storage.blocks import Blocks
from pipeline.storage.cache import cache_in
from pipeline.storage.uris import is_remote

if TYPE_CHECKING:
    from pipeline.config import DecodeConfig

_HASH_BLOCK_BYTES = 2**20


@contextmanager
def opened(source: Source, stage: str, limits: DecodeConfig) -> Iterator[VideoFile]:
    """The bytes of `source`; its own errors, and those of the system and of a store inside the
    block, as VideoErrors.

    Raises VideoError where they are not those that were discovered, which is also the reason given
    for whatever else went wrong then. A local file that is replaced by another under its name while
    it is open is still read whole, but named by what it no longer is. What is read of an object
    stays what it was.
    """
    if not is_remote(source.uri):
        file = LocalFile(source, stage)
        file.check()
        try:
            yield file
        except (VideoError, OSError) as error:
            file.check()
            raise _as_video_error(error, stage) from None
        file.check()
        return
    try:
        with uncapped():
            cache = cache_in(limits.cache_folder, None if limits.cache == "auto" else limits.cache)
            of = (source.uri, source.stamp, source.size_bytes)
            blocks = cache.open(*of) or Blocks(*of)
        with closing(blocks):
            yield RemoteFile(blocks, stage, cache.limit)
    except (VideoError, OSError) as error:
        raise _as_video_error(error, stage) from None


def check_unchanged(source: Source, stage: str) -> None:
    """Raise VideoError where a local file is not the one that was discovered, without reading it.

    An object was held against its version when it was discovered, which is asked of the store.
    """
    if not is_remote(source.uri):
        LocalFile(source, stage).check()


def find_content(
    video_id: str, places: Iterable[tuple[str, str]], limits: DecodeConfig, stage: str = "decode"
) -> Source:
    """A file that has the content now: its stamp is the recorded one, or its sha256 `video_id`.

    Args:
        places: (uri, stamp) where the content has been found, tried in turn.

    Raises VideoError where none has it any more, with the reason of the last.
    """
    why = VideoError(stage, "no file is recorded to have this content")
    for uri, stamp in places:
        try:
            source = look(uri)
            if source.stamp == stamp or _sha256_now(source, limits, stage) == video_id:
                return source
            why = VideoError(stage, "the file has other bytes now")
        except (VideoError, OSError) as error:
            why = _as_video_error(error, stage)
    raise why


def _sha256_now(source: Source, limits: DecodeConfig, stage: str) -> str:
    with opened(source, stage, limits) as file:
        return file.sha256()


def _as_video_error(error: VideoError | OSError, stage: str) -> VideoError:
    if isinstance(error, VideoError):
        return error
    return VideoError(stage, str(error.strerror or error), is_systemic(error))


class LocalFile:
    """A file that this machine has."""

    def __init__(self, source: Source, stage: str) -> None:
        self._source = source
        self._stage = stage

    def check(self) -> None:
        """Raise VideoError where the file is gone or is not the one that was discovered."""
        try:
            now = stamp_of(os.stat(self._source.uri))
        except OSError as error:
            raise _as_video_error(error, self._stage) from None
        if now != self._source.stamp:
            raise VideoError(self._stage, "the file changed during the run")

    def fetch(self) -> None:
        """All of it, to be read more than once; here it is."""

    @contextmanager
    def for_ffmpeg(self) -> Iterator[str | RangeReader]:
        """What is to be opened, and read in the block."""
        self.check()
        # "file:" keeps FFmpeg from reading a protocol into a name such as `concat:a.mp4`.
        yield "file:" + self._source.uri

    def path(self) -> str:
        """A local file with all the bytes."""
        self.check()
        return self._source.uri

    def bytes(self) -> BinaryIO:
        """The same to be read, and closed, by the caller."""
        return open(self._source.uri, "rb")

    def sha256(self) -> str:
        """Hex, of all the bytes."""
        return sha256_of(self._source.uri)


class RemoteFile:
    """An object of a store; see `LocalFile` for its methods, which raise OSError as well."""

    def __init__(self, blocks: Blocks, stage: str, cache_bytes: int) -> None:
        self._blocks = blocks
        self._stage = stage
        self._cache_bytes = cache_bytes

    def fetch(self) -> None:
        if self._blocks.path is not None:
            self.sha256()

    @contextmanager
    def for_ffmpeg(self) -> Iterator[str | RangeReader]:
        if self._blocks.path is not None and self._blocks.whole:
            yield "file:" + self._blocks.path
            return
        reader = _Unfailing(self._blocks)
        try:
            yield reader
        except Exception:
            # FFmpeg's words for it say nothing.
            if reader.error is not None:
                raise reader.error from None
            raise
        if reader.error is not None:
            raise reader.error

    def path(self) -> str:
        if self._blocks.path is None:
            what = f"a file of {self._blocks.size:,} bytes, which OpenCV needs on disk"
            raise above(self._stage, what, "cache", self._cache_bytes)
        self.fetch()
        return self._blocks.path

    def bytes(self) -> BinaryIO:
        if self._blocks.path is not None and self._blocks.whole:
            return open(self._blocks.path, "rb")
        return cast(BinaryIO, RangeReader(self._blocks))

    def sha256(self) -> str:
        with uncapped():
            return self._blocks.sha256()


VideoFile: TypeAlias = LocalFile | RemoteFile


class RangeReader:
    """A file object over blocks."""

    name = "video"

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._at = 0

    def read(self, length: int = -1) -> bytes:
        stop = self._at + length if length >= 0 else self._blocks.size
        with uncapped():
            data = self._blocks.read(self._at, stop)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._blocks.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        """The blocks are whoever's they were."""


class _Unfailing(RangeReader):
    """Whose errors are kept: some demuxers take them for the end, and say nothing of them."""

    error: BaseException | None = None

    def read(self, length: int = -1) -> bytes:
        if self.error is not None:
            return b""
        try:
            return super().read(length)
        except BaseException as error:
            self.error = error
            return b""


def sha256_of(path: str) -> str:
    """Hex sha256 of a file's bytes, read in blocks.

    A pass of its own: demuxing through a Python file object to hash the same read costs more than
    reading the pages again from the cache (sha256 runs at 1.8 GB/s here).
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
