"""Who may ask, and what a browser may do with the answers.

Host            this machine's: else another site's name leads here (DNS rebinding)
Sec-Fetch-Site  no other site's page may ask for anything but the page itself
token           where others than this machine can connect: once in the address, a cookie then
headers         no script, style or picture from elsewhere; in no frame; nothing for other sites
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to a server at `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware: passes on what may be answered, and puts the headers on every answer."""

    def __init__(self, app: ASGIApp, host: str, port: int, token: str | None) -> None:
        """`token`: None where none is asked for. Raises ValueError where one has to be."""
        if token is None and not is_loopback(host):
            raise ValueError(f"a server that others can reach needs a token: {host = }")
        self._app = app
        self._token = token
        # Browsers keep cookies by host, whatever the port: two servers must not share one.
        self._cookie = f"frameledger-{port}"
        self._names = {"localhost"}
        if not is_loopback(host):
            self._names |= {host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
        self._only_loopback = is_loopback(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._refusal(scope)
        await (answer or self._app)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer to what may not be passed on."""
        headers = Headers(scope=scope)
        if not self._is_here(headers.get("host", "")):
            return PlainTextResponse("this server is not known by that name\n", 403)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("only GET and HEAD\n", 405, {"Allow": "GET, HEAD"})
        # A link from elsewhere may open the page; nothing else is for other sites.
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and scope["path"] != "/":
            return PlainTextResponse("not for other sites\n", 403)
        return None if self._token is None else self._without_token(scope, headers)

    def _is_here(self, host: str) -> bool:
        """Whether a Host header can only have been meant for this server.

        An address leads where it says; a name leads wherever its owner lets it.
        """
        name = host.rsplit("]", 1)[0].lstrip("[") if host.startswith("[") else host.split(":")[0]
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name.lower() in self._names
        return address.is_loopback or not self._only_loopback

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        assert self._token is not None
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            cookies = SimpleCookie()
        if self._cookie in cookies and self._is_token(cookies[self._cookie].value):
            return None
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if scope["path"] == "/" and self._is_token(query.get("token", [""])[0]):
            rest = urlencode({k: v for k, v in query.items() if k != "token"}, doseq=True)
            answer = RedirectResponse(f"/?{rest}" if rest else "/", 303)
            answer.set_cookie(self._cookie, self._token, path="/", httponly=True, samesite="strict")
            return answer
        return PlainTextResponse(
            "a token is needed: open the address that `frameledger serve` printed\n", 403
        )

    def _is_token(self, given: str) -> bool:
        assert self._token is not None
        return secrets.compare_digest(given.encode("utf-8", "replace"), self._token.encode())
