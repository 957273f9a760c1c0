"""A client of the server within the process, and what its refusals may hold."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.testclient import TestClient

from pipeline.serve.app import make_app

if TYPE_CHECKING:
    from tests.serve.conftest import Corpus

HERE = "http://127.0.0.1:8000"


def client_of(output: Path, base_url: str = HERE, **settings) -> TestClient:
    settings = {"host": "127.0.0.1", "port": 8000, "token": None} | settings
    return TestClient(make_app(str(output), **settings), base_url, follow_redirects=False)


def is_plain(answer, corpus: Corpus) -> bool:
    """One line of text that names nothing of this machine."""
    text = answer.text
    hidden = [str(corpus.output), str(corpus.videos), "Traceback", "/tmp", os.sep + "home", ".py"]
    return (
        text.count("\n") == 1
        and answer.headers["content-type"].startswith("text/plain")
        and not any(word in text for word in hidden)
    )
