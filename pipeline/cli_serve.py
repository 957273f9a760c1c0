"""`frameledger serve`: the command of the local web page."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli_options import OutputArg


def serve_command(
    output: OutputArg,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8000,
    host: Annotated[
        str,
        typer.Option(help="Where to listen. Others than this machine need the token printed."),
    ] = "127.0.0.1",
    open_page: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
) -> None:
    """Search and look at OUTPUT in a browser, until this command is stopped.

    Nothing is loaded from elsewhere, and nothing is served but what the tables and their videos
    hold.
    """
    from pipeline.serve.server import serve

    serve(output, host, port, tell=lambda address: print(address, flush=True), open_page=open_page)
