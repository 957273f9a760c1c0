"""A real Chromium without a window, where the system has one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import pytest

WAIT_MS = 120_000.0


def require_chromium() -> str:
    """The path of the system's Chromium. Skips the test where that, or Playwright, is absent."""
    pytest.importorskip("playwright", reason="Playwright is not installed")
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no Chromium on this system (Debian's package `chromium`)")
    return found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser for the tests of a file."""
    path = require_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
        browser = playwright.chromium.launch(executable_path=path, args=arguments, timeout=WAIT_MS)
        yield browser
        browser.close()


@contextmanager
def chromium_page(
    chromium: Any, width: int = 1280, height: int = 800, **settings: Any
) -> Iterator[Any]:
    """A page without a network that shares nothing with others of the browser.

    Errors of the page's scripts, and whatever it asks of another machine, fail the test.
    """
    wrong: list[str] = []
    page = chromium.new_page(viewport={"width": width, "height": height}, **settings)
    try:
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda asked: wrong.extend(_elsewhere(asked.url)))
        page.set_default_timeout(WAIT_MS)
        yield page
    finally:
        page.close()
    assert not wrong, wrong


def _elsewhere(url: str) -> list[str]:
    here = ("file:", "data:", "blob:", "about:", "http://127.0.0.1:", "http://localhost:")
    return [] if url.startswith(here) else [f"asked for {url}"]


def picture_of(png: bytes) -> np.ndarray:
    """RGB, uint8 (height, width, 3), of a screenshot."""
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
