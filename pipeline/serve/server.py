"""`frameledger serve`: a socket, an address to open, and a server on it until it is stopped."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import ipaddress
import secrets
import socket
import sys
from collections.abc import Callable

from pipeline.errors import UsageError

_GOODBYE_S = 2
"""Browsers keep connections; the server does not wait for them longer than this."""


def serve(
    output: str, host: str, port: int, *, tell: Callable[[str], None], open_page: bool = False
) -> None:
    """Serve the page of an output until SIGINT or SIGTERM.

    Args:
        host: name or address to listen at; loopback asks for no token.
        port: 0 for any that is free.
        tell: is given the address to open.
        open_page: open it in this machine's browser.

    Raises UsageError where Starlette or uvicorn is not installed, where `output` is none, and
    where the address cannot be listened at.
    """
    for needed in ("starlette", "uvicorn"):
        if importlib.util.find_spec(needed) is None:
            raise UsageError(
                f"serve needs {needed}, which is not installed: pip install 'frameledger[serve]'"
            )
    import uvicorn

    from pipeline.serve.app import make_app
    from pipeline.serve.security import is_loopback

    with _listening(host, port) as listener:
        port = listener.getsockname()[1]
        token = None if is_loopback(host) else secrets.token_urlsafe(24)
        server: uvicorn.Server

        def complain(line: str) -> None:
            # What is cut off by the end of the server goes wrong, and concerns nobody.
            if not server.should_exit:
                print(line, file=sys.stderr, flush=True)

        app = make_app(output, host=host, port=port, token=token, tell=complain)
        config = uvicorn.Config(
            app,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            timeout_graceful_shutdown=_GOODBYE_S,
        )
        server = uvicorn.Server(config)
        address = address_of(host, port, token)
        with contextlib.suppress(KeyboardInterrupt):
            tell(address)
            if open_page:
                import webbrowser

                webbrowser.open(address)
            server.run(sockets=[listener])


def address_of(host: str, port: int, token: str | None) -> str:
    """What is to be opened in a browser."""
    try:
        every = ipaddress.ip_address(host).is_unspecified
        name = f"[{host}]" if ":" in host else host
    except ValueError:
        every, name = False, host
    name = socket.gethostname() if every else name
    return f"http://{name}:{port}/" + (f"?token={token}" if token is not None else "")


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises UsageError where it cannot be had."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise UsageError(f"--host {host}: {error.strerror}") from None
    except (OSError, OverflowError, UnicodeError):
        raise UsageError(f"--host {host}: is no name or address to listen at") from None
    family, _, _, _, where = found[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"--port {port}: is in use by another program; give another, or 0 for any"
            ) from None
        if error.errno == errno.EACCES:
            raise UsageError(
                f"--port {port}: this user may not listen there; from 1024 on all may"
            ) from None
        raise UsageError(f"--host {host}: {error.strerror}") from None
    return listener
