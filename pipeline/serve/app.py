"""Routes: what is asked for, checked, and how it is answered.

GET /                                    the page
GET /static/NAME                         its parts
GET /api/overview                        counts of everything
GET /api/searchable                      whether texts can be searched for
GET /api/search?q=&k=&class=&min_score=&video=
GET /api/videos?offset=&limit=&like=     videos by name
GET /api/failures?offset=&limit=
GET /api/videos/ID                       one video; and of it
GET /api/videos/ID/index                 pts of every frame
GET /api/videos/ID/boxes?start=&stop=    boxes of the frames [start, stop)
GET /api/videos/ID/masks?start=&stop=    masks of their boxes
GET /api/videos/ID/tracks?start=&stop=   boxes of tracks
GET /api/videos/ID/trackmasks?start=&stop=
GET /api/videos/ID/tracklist?offset=&limit=
GET /api/videos/ID/timeline?parts=
GET /api/videos/ID/frames/N.png          the exact picture of a frame
GET /api/videos/ID/frames/N.jpg?width=   a smaller one
GET /media/ID                            the bytes, by ranges

What is not answered is refused with a status and one plain line that says nothing of the machine.
"""

from __future__ import annotations

import math
import re
import sys
import traceback
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route
from starlette.types import ASGIApp

from pipeline.serve import media
from pipeline.serve.queries import MOST_FRAMES, MOST_MASKED, Queries
from pipeline.serve.refusal import Refusal
from pipeline.serve.security import Guard

STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_ID = re.compile(r"[0-9a-f]{64}")
_LONGEST_TEXT = 500
_KEEP = {"Cache-Control": "private, max-age=3600"}
"""For what is named by its content, and can not become another."""


def make_app(
    output: str,
    *,
    host: str,
    port: int,
    token: str | None,
    tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> ASGIApp:
    """The server of one output.

    `tell` is given what only who started it may know, such as why a model does not load. Raises
    UsageError where `output` is none.
    """

    def broken(_request: Request, error: Exception) -> Response:
        tell("".join(traceback.format_exception(error)))
        return _line(500, "that went wrong; the terminal of the server says how")

    handlers: dict[Any, Any] = {
        Refusal: _refused,
        HTTPException: _refused_by_router,
        Exception: broken,
    }
    app = Starlette(routes=Routes(Queries(output, tell)).all(), exception_handlers=handlers)
    return Guard(app, host, port, token)


class Routes:
    """A method for each; those that are not `async` run in threads."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._static = {path.name: path for path in STATIC.iterdir() if path.suffix in _TYPES}

    def all(self) -> list[Route]:
        one = "/api/videos/{video_id}"
        return [
            Route("/", self.page),
            Route("/static/{name}", self.static),
            Route("/api/overview", self.overview),
            Route("/api/searchable", self.searchable),
            Route("/api/search", self.search),
            Route("/api/videos", self.videos),
            Route("/api/failures", self.failures),
            Route(one, self.video),
            Route(one + "/index", self.index),
            Route(one + "/boxes", self.boxes),
            Route(one + "/masks", self.masks),
            Route(one + "/tracks", self.tracks),
            Route(one + "/trackmasks", self.track_masks),
            Route(one + "/tracklist", self.track_list),
            Route(one + "/timeline", self.timeline),
            Route(one + "/frames/{frame}.png", self.picture),
            Route(one + "/frames/{frame}.jpg", self.thumbnail),
            Route("/media/{video_id}", self.media),
        ]

    # -- the page ---------------------------------------------------------------------

    def page(self, _request: Request) -> Response:
        return _file(self._static["index.html"])

    def static(self, request: Request) -> Response:
        path = self._static.get(request.path_params["name"])
        if path is None:
            raise Refusal(404, "no such file")
        return _file(path)

    # -- the output -------------------------------------------------------------------

    def overview(self, _request: Request) -> Response:
        return JSONResponse(self._queries.overview())

    def searchable(self, _request: Request) -> Response:
        return JSONResponse(self._queries.search_state())

    def search(self, request: Request) -> Response:
        asked = request.query_params
        text = _text(request, "q")
        if not text:
            raise Refusal(400, "q: nothing to search for")
        least = _share(asked["min_score"]) if asked.get("min_score") else None
        found = self._queries.search(
            text,
            k=_number(request, "k", 24, 1, 200),
            class_name=_text(request, "class") or None,
            min_score=least,
            video=_text(request, "video") or None,
        )
        return JSONResponse(found)

    def videos(self, request: Request) -> Response:
        offset, limit = _paging(request)
        return JSONResponse(self._queries.videos(offset, limit, _text(request, "like")))

    def failures(self, request: Request) -> Response:
        return JSONResponse(self._queries.failures(*_paging(request)))

    # -- one video --------------------------------------------------------------------

    def video(self, request: Request) -> Response:
        return JSONResponse(self._queries.video(_id(request)))

    def index(self, request: Request) -> Response:
        return JSONResponse(self._queries.index(_id(request)))

    def boxes(self, request: Request) -> Response:
        return JSONResponse(self._queries.boxes(_id(request), *_frames(request, MOST_FRAMES)))

    def masks(self, request: Request) -> Response:
        return JSONResponse(self._queries.masks(_id(request), *_frames(request, MOST_MASKED)))

    def tracks(self, request: Request) -> Response:
        return JSONResponse(self._queries.tracks(_id(request), *_frames(request, MOST_FRAMES)))

    def track_masks(self, request: Request) -> Response:
        return JSONResponse(self._queries.track_masks(_id(request), *_frames(request, MOST_MASKED)))

    def track_list(self, request: Request) -> Response:
        return JSONResponse(self._queries.track_list(_id(request), *_paging(request)))

    def timeline(self, request: Request) -> Response:
        parts = _number(request, "parts", 160, 1, 1000)
        return JSONResponse(self._queries.timeline(_id(request), parts))

    def picture(self, request: Request) -> Response:
        video_id, frame = _id(request), _frame(request)
        source, index = self._queries.source(video_id), self._queries.index_of(video_id)
        return Response(media.exact_png(source, index, frame), 200, _KEEP, "image/png")

    def thumbnail(self, request: Request) -> Response:
        video_id, frame = _id(request), _frame(request)
        width = _number(request, "width", 384, 16, 1920)
        source, index = self._queries.source(video_id), self._queries.index_of(video_id)
        return Response(media.thumbnail(source, index, frame, width), 200, _KEEP, "image/jpeg")

    def media(self, request: Request) -> Response:
        video_id = _id(request)
        source = self._queries.source(video_id)
        size = source.size_bytes
        tag = f'"{video_id}"'
        asked = request.headers.get("range")
        if request.headers.get("if-range", tag) != tag:
            asked = None
        headers = {"Accept-Ranges": "bytes", "ETag": tag, **_KEEP}
        try:
            part = media.byte_range(asked, size)
        except Refusal as refusal:
            headers = {"Content-Range": f"bytes */{size}"}
            return PlainTextResponse(refusal.line + "\n", refusal.status, headers)
        start, stop = part or (0, size)
        headers["Content-Length"] = str(stop - start)
        if part is not None:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        kind = media.media_type(self._queries.container(video_id))
        status = 206 if part is not None else 200
        if request.method == "HEAD":
            media.check(source)
            return Response(None, status, headers, kind)
        return StreamingResponse(media.read_bytes(source, start, stop), status, headers, kind)


# -- what is asked for ----------------------------------------------------------------


def _id(request: Request) -> str:
    video_id = str(request.path_params["video_id"])
    if not _ID.fullmatch(video_id):
        raise Refusal(404, "no such video")
    return video_id


def _frame(request: Request) -> int:
    text = request.path_params["frame"]
    if not re.fullmatch("[0-9]{1,12}", text):
        raise Refusal(404, "no such frame")
    return int(text)


def _text(request: Request, name: str) -> str:
    text = request.query_params.get(name, "").strip()
    if len(text) > _LONGEST_TEXT or not text.isprintable():
        raise Refusal(400, f"{name}: at most {_LONGEST_TEXT} letters that can be printed")
    return text


def _number(request: Request, name: str, otherwise: int, least: int, most: int) -> int:
    text = request.query_params.get(name, "")
    if not text:
        return otherwise
    if not re.fullmatch("[0-9]{1,15}", text) or not least <= int(text) <= most:
        raise Refusal(400, f"{name}: a whole number from {least} to {most}")
    return int(text)


def _frames(request: Request, most: int) -> tuple[int, int]:
    start = _number(request, "start", 0, 0, 10**12)
    stop = _number(request, "stop", start + most, 0, 10**12)
    if not start < stop <= start + most:
        raise Refusal(400, f"stop: from 1 to {most} frames behind start")
    return start, stop


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise Refusal(400, "min_score: a number from 0 to 1")
    return value


def _paging(request: Request) -> tuple[int, int]:
    return _number(request, "offset", 0, 0, 10**9), _number(request, "limit", 60, 1, 500)


# -- how it is answered ---------------------------------------------------------------


def _file(path: Path) -> Response:
    return FileResponse(path, media_type=_TYPES[path.suffix], headers={"Cache-Control": "no-cache"})


def _line(status: int, line: str) -> Response:
    return PlainTextResponse(line + "\n", status)


def _refused(_request: Request, error: Any) -> Response:
    return _line(error.status, error.line)


def _refused_by_router(_request: Request, error: Any) -> Response:
    return _line(error.status_code, HTTPStatus(error.status_code).phrase.lower())
