"""Opening a video safely: its own bytes only, known containers only, one stream by one rule."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.errors import VideoError, is_systemic
from pipeline.sources.files import VideoFile
from pipeline.sources.limits import check_picture, refuse_large_pictures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.container import InputContainer
    from av.video.stream import VideoStream

    from pipeline.config import DecodeConfig

# Without these a local playlist opens other files, and `concat:` or `http:` in a name or in a
# file's content opens whatever it says.
SAFE_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv",
}
_OPEN_TIMEOUT_S = 30.0
_READ_BYTES = 2**18
"""Asked of a file object at once: each time costs a call into Python."""


HEADER_TELLS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
"""Containers that give every packet its pts, whatever the decoder knows, and the duration."""


@contextmanager
def open_for_packets(
    file: VideoFile, stage: str, limits: DecodeConfig
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """As `open_video`, in a tenth of the time where the packets alone say what is to be known.

    FFmpeg decodes the first frames on opening, for the frame rate and the delay of the decoder
    (17 of 19 ms for a 720p H.264 file here). Without that, containers that keep no pts would be
    given wrong ones, and of several video streams another may be thought the best: those files
    are opened in full.
    """
    with _opened(file, stage, limits, {"skip_frame": "all"}) as container:
        if container.format.name in HEADER_TELLS and len(container.streams.video) == 1:
            stream = _choose(container, stage, limits)
            stream.codec_context.skip_frame = "DEFAULT"
            yield container, stream
            return
    with open_video(file, stage, limits) as found:
        yield found


@contextmanager
def open_video(
    file: VideoFile, stage: str, limits: DecodeConfig
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Container and chosen video stream of a file, closed on leaving.

    The stream is FFmpeg's "best" one (`av_find_best_stream`: the default disposition, then the
    highest bit rate), pictures attached as covers left out. Raises VideoError (with `stage`) for
    a file that is missing, has changed since it was discovered, is no video, has no video stream
    or too large a picture; errors of FFmpeg inside the `with` block become VideoErrors as well,
    except that memory which is not to be had stays a MemoryError.
    """
    with _opened(file, stage, limits, {}) as container:
        yield container, _choose(container, stage, limits)


@contextmanager
def _opened(
    file: VideoFile, stage: str, limits: DecodeConfig, more: dict[str, str]
) -> Iterator[InputContainer]:
    import av
    from av.error import FFmpegError

    try:
        with file.for_ffmpeg() as name:
            # A store takes the time that it takes; its client gives up by itself.
            wait_s = _OPEN_TIMEOUT_S if isinstance(name, str) else None
            with av.open(
                name,
                # On opening, FFmpeg decodes the first frames.
                options=SAFE_OPTIONS | more | {"max_pixels": str(limits.max_pixels)},
                timeout=(wait_s, wait_s),
                buffer_size=_READ_BYTES,
                **_lenient_metadata(),
            ) as container:
                yield container
    except MemoryError:
        raise
    except FFmpegError as error:
        raise VideoError(stage, _reason(error), is_systemic(error)) from None
    except OSError as error:
        raise VideoError(stage, str(error.strerror or error), is_systemic(error)) from None


def _lenient_metadata() -> dict[str, Any]:
    """Titles in some other encoding are no reason to lose a video. PyAV 19 reads them without
    being asked to, and no longer knows the option."""
    import av

    return {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


def _choose(container: InputContainer, stage: str, limits: DecodeConfig) -> VideoStream:
    stream = _best(container, stage)
    context = stream.codec_context
    check_picture(stage, context.width, context.height, limits)
    refuse_large_pictures(context, limits)
    return stream


def _best(container: InputContainer, stage: str) -> VideoStream:
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
