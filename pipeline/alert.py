"""Telling somebody how a run has ended: its report, as JSON, to a webhook.

The URL comes from the environment and is a secret: of it, nothing but scheme and host is printed.
"""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config import AlertConfig

TRIES = 3
TIMEOUT_S = 5.0
PAUSE_S = 1.0
"""Before the second try, and twice that before the third: some 18 s in all where nobody answers,
which is within what a scheduler leaves a process that it has told to end."""


def alert(config: AlertConfig, report: dict[str, Any]) -> str:
    """POST the report. Returns what went wrong, empty where nothing did; raises nothing."""
    if config.on == "failure" and not report["exit_code"]:
        return ""
    url = os.environ.get(config.webhook_env, "").strip()
    if not url:
        return f"alert.webhook_env: {config.webhook_env} is not set, so nobody is told"
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname
    except ValueError:
        usable = None
    if not usable:
        return f"alert.webhook_env: {config.webhook_env} holds no http or https URL"
    body = json.dumps(report).encode()
    for number in range(TRIES):
        time.sleep(PAUSE_S * number)
        problem, again = _post(url, body)
        if not problem or not again:
            break
    return f"alert: {parts.scheme}://{parts.hostname} was not told: {problem}" if problem else ""


def _post(url: str, body: bytes) -> tuple[str, bool]:
    """What went wrong, and whether another try may mend it."""
    headers = {"Content-Type": "application/json", "User-Agent": "frameledger"}
    try:
        request = urllib.request.Request(url, body, headers, method="POST")
        with _OPENER.open(request, timeout=TIMEOUT_S):
            return "", False
    except urllib.error.HTTPError as error:
        error.close()
        return f"HTTP status {error.code}", error.code >= 500 or error.code == 429
    except urllib.error.URLError as error:
        # Not its own text, which may have the URL in it.
        return getattr(error.reason, "strerror", None) or type(error.reason).__name__, True
    except (OSError, http.client.HTTPException, ValueError) as error:
        return getattr(error, "strerror", None) or type(error).__name__, True


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A POST that is sent elsewhere arrives there as a GET, without its report."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)
