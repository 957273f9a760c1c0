"""A configuration that lies elsewhere: fetched by its URL into a file."""

from __future__ import annotations

import os
import urllib.error
import urllib.parse
import urllib.request

from pipeline.errors import ConfigError
from pipeline.storage.uris import is_remote

MOST_BYTES = 2**20
"""Of a configuration; what is larger is something else."""
TIMEOUT_S = 30.0
_WEB = ("https", "file", "data")


def fetch_config(url: str, folder: str) -> str:
    """The path of the configuration at `url`, put into `folder` under its own name.

    Args:
        url: `https:`, `file:` or `data:`, or a URI of an object store. Not `http:`: whoever
            carries it could change what is run.

    Raises ConfigError naming the URL.
    """
    data = _read(url)
    if len(data) > MOST_BYTES:
        raise ConfigError(f"{_short(url)}: larger than {MOST_BYTES >> 20} MiB: no configuration")
    name = os.path.basename(urllib.parse.urlsplit(url).path)
    path = os.path.join(folder, name if name.endswith((".yaml", ".yml")) else "config.yaml")
    with open(path, "wb") as file:
        file.write(data)
    return path


def _read(url: str) -> bytes:
    scheme = url.partition(":")[0].lower()
    if is_remote(url):
        from pipeline.storage.objects import read

        try:
            return read(url)
        except (OSError, ValueError) as error:
            why = "no such object" if isinstance(error, FileNotFoundError) else str(error)
            raise ConfigError(f"{url}: cannot read the configuration: {why}") from None
    if scheme not in _WEB:
        raise ConfigError(f"{url}: a configuration is fetched from https, file, s3, gs or az URLs")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            if scheme == "https" and not answer.url.startswith("https:"):
                raise ConfigError(f"{_short(url)}: leads to {answer.url}, which anyone can change")
            return bytes(answer.read(MOST_BYTES + 1))
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ConfigError(f"{_short(url)}: cannot read the configuration: {reason}") from None


def _short(url: str) -> str:
    return url if len(url) <= 100 else f"{url[:97]}..."
