"""Opening a video file safely: local bytes only, known containers only, one stream by one rule."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.errors import VideoError, is_systemic
from pipeline.records import Source
from pipeline.sources.discover import stamp_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.container import InputContainer
    from av.video.stream import VideoStream

# Without these a local playlist opens other files, and `concat:` or `http:` in a name or in a
# file's content opens whatever it says.
_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv",
}
_OPEN_TIMEOUT_S = 30.0


_PACKETS_SUFFICE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
"""Containers that give every packet its pts, whatever the decoder knows."""


@contextmanager
def open_for_packets(source: Source, stage: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """As `open_video`, in a tenth of the time where the packets alone say what is to be known.

    FFmpeg decodes the first frames on opening, for the frame rate and the delay of the decoder
    (17 of 19 ms for a 720p H.264 file here). Without that, containers that keep no pts would be
    given wrong ones, and of several video streams another may be thought the best: those files
    are opened in full.
    """
    check_unchanged(source, stage)
    with _opened(source, stage, {"skip_frame": "all"}) as container:
        if container.format.name in _PACKETS_SUFFICE and len(container.streams.video) == 1:
            stream = _choose(container, stage)
            stream.codec_context.skip_frame = "DEFAULT"
            yield container, stream
            return
    with open_video(source, stage) as found:
        yield found


@contextmanager
def open_video(source: Source, stage: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Container and chosen video stream of a local file, closed on leaving.

    The stream is FFmpeg's "best" one (`av_find_best_stream`: the default disposition, then the
    largest picture), pictures attached as covers left out. Raises VideoError (with `stage`) for
    a file that is missing, has changed since it was discovered, is no video, or has no video
    stream; errors of FFmpeg inside the `with` block become VideoErrors as well.
    """
    check_unchanged(source, stage)
    with _opened(source, stage, {}) as container:
        yield container, _choose(container, stage)


@contextmanager
def _opened(source: Source, stage: str, more: dict[str, str]) -> Iterator[InputContainer]:
    import av
    from av.error import FFmpegError

    try:
        # "file:" keeps FFmpeg from reading a protocol into a name such as `concat:a.mp4`.
        with av.open(
            "file:" + source.uri,
            options=_OPTIONS | more,
            timeout=(_OPEN_TIMEOUT_S, _OPEN_TIMEOUT_S),
            **_lenient_metadata(),
        ) as container:
            yield container
    except FFmpegError as error:
        raise VideoError(stage, _reason(error), is_systemic(error)) from None
    except OSError as error:
        raise VideoError(stage, str(error.strerror or error), is_systemic(error)) from None


def _lenient_metadata() -> dict[str, Any]:
    """Titles in some other encoding are no reason to lose a video. PyAV 19 reads them without
    being asked to, and no longer knows the option."""
    import av

    return {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


def check_unchanged(source: Source, stage: str) -> None:
    """Raise VideoError where the file is gone or is not the one that was discovered."""
    try:
        now = stamp_of(os.stat(source.uri))
    except OSError as error:
        raise VideoError(stage, str(error.strerror), is_systemic(error)) from None
    if now != source.stamp:
        raise VideoError(stage, "the file changed during the run")


def _choose(container: InputContainer, stage: str) -> VideoStream:
    from av.stream import Disposition

    def is_cover(stream: VideoStream) -> bool:
        return bool(stream.disposition & Disposition.attached_pic)

    best = container.streams.best("video")
    if best is None or is_cover(best):  # type: ignore[arg-type]
        rest = [s for s in container.streams.video if not is_cover(s)]
        if not rest:
            raise VideoError(stage, "no video stream")
        return max(rest, key=lambda s: s.codec_context.width * s.codec_context.height)
    return best  # type: ignore[return-value]


def _reason(error: Exception) -> str:
    import av

    # A container that is not on the list above is an "invalid argument" to FFmpeg.
    if isinstance(error, (av.error.InvalidDataError, av.error.ArgumentError)):
        return "not a video, damaged beyond reading, or a container that is not accepted"
    return f"FFmpeg: {getattr(error, 'strerror', None) or error}"
