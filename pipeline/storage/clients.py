"""Clients of buckets: one a bucket and process, set up from the environment.

Credentials, region and endpoint come from where the vendors' own tools read them (AWS_*, GOOGLE_*,
AZURE_*; for S3 also profiles, where boto3 is installed). Where there are none at all, that is said
at once: the clients would ask the service of a cloud machine for them, which nobody answers
elsewhere, for minutes.
"""

from __future__ import annotations

import os
import socket
from contextlib import closing
from datetime import timedelta
from functools import lru_cache
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

RETRIES = 10
RETRY_S = 120.0
"""A request is tried again so often, and no longer than so: above it the store is down."""
FIRST_PAUSE_S, BACKOFF_BASE, LONGEST_PAUSE_S = 0.1, 3.0, 5.0
"""Each pause is drawn between the first and so many times the last, up to the longest. With 2, the
client's own default, ten tries were over in 2 s here, less than a store that throttles asks for."""
TIMEOUT_S = 60.0
"""Of one request, its body included."""
CONNECT_S = 10.0
_ASK_S = 1.0
"""A machine of a cloud answers its own service in milliseconds; boto3 waits as long."""

_METADATA = "169.254.169.254"
_CREDENTIALS = {
    "s3": (
        *("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE"),
        *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
    ),
    "gs": (
        *("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SKIP_SIGNATURE"),
        *("GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_SERVICE_ACCOUNT_PATH"),
    ),
    "az": (
        *("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_SAS_KEY"),
        *("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_TOKEN", "AZURE_CLIENT_SECRET"),
        *("AZURE_STORAGE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE", "IDENTITY_ENDPOINT"),
        *("AZURE_USE_AZURE_CLI", "AZURE_SKIP_SIGNATURE", "AZURE_STORAGE_USE_EMULATOR"),
        *("MSI_ENDPOINT", "AZURE_MSI_ENDPOINT"),
    ),
}
"""Variables of which one is enough for the client not to ask the machine."""
_SET = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE (which takes boto3); "
    "AWS_SKIP_SIGNATURE=true for a public bucket",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS; GOOGLE_SKIP_SIGNATURE=true for a public bucket",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_USE_AZURE_CLI=true; "
    "AZURE_SKIP_SIGNATURE=true for a public container",
}


def bucket(kind: str, name: str) -> ObjectStore:
    """The client of a bucket, with its connections. Raises UsageError where it has no credentials
    or cannot be set up as the environment says."""
    return _bucket(kind, name, endpoint(kind))


@lru_cache(maxsize=64)
def _bucket(kind: str, name: str, _endpoint: str) -> ObjectStore:
    return open_bucket(kind, name, RETRIES, RETRY_S, TIMEOUT_S)


def open_bucket(
    kind: str, name: str, retries: int, retry_s: float, timeout_s: float
) -> ObjectStore:
    """A new client. Raises as `bucket`."""
    from obstore.store import AzureStore, GCSStore, S3Store

    empty = [variable for variable in _ENDPOINTS[kind] if os.environ.get(variable) == ""]
    if empty:
        raise UsageError(f"{kind}://{name}: {empty[0]} is empty: unset it, or name an endpoint")
    provider = profile() if kind == "s3" else None
    if provider is None:
        _check_credentials(kind, name)
    more: dict[str, Any] = {
        "client_options": client_options(kind, timeout_s),
        "retry_config": {
            "max_retries": retries,
            "retry_timeout": timedelta(seconds=retry_s),
            "backoff": {
                "init_backoff": timedelta(seconds=FIRST_PAUSE_S),
                "base": BACKOFF_BASE,
                "max_backoff": timedelta(seconds=LONGEST_PAUSE_S),
            },
        },
    }
    try:
        if kind == "s3":
            if provider is not None:
                more["credential_provider"] = provider
            return S3Store(name, **more)
        if kind == "gs":
            return GCSStore(name, **more)
        return AzureStore(name, **more)
    except Exception as error:  # Each vendor's client has errors of its own for what it is set to.
        line = " ".join(str(error).split("Debug source:")[0].split())[:300]
        raise UsageError(f"{kind}://{name}: cannot open the store: {line}") from None


def client_options(kind: str, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """How requests are made; plain HTTP only where the environment names such an endpoint."""
    return {
        "timeout": timedelta(seconds=timeout_s),
        "connect_timeout": timedelta(seconds=min(CONNECT_S, timeout_s)),
        "allow_http": endpoint(kind).startswith("http://"),
    }


def endpoint(kind: str) -> str:
    """The endpoint that the environment names in place of the vendor's own, "" for none."""
    return next((os.environ[name] for name in _ENDPOINTS[kind] if os.environ.get(name)), "")


_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}


def _check_credentials(kind: str, name: str) -> None:
    """Raise UsageError where neither the environment has any nor a cloud's machine could."""
    if any(os.environ.get(variable) for variable in _CREDENTIALS[kind]):
        return
    if kind == "gs" and os.path.exists(
        os.path.expanduser("~/.config/gcloud/application_default_credentials.json")
    ):
        return
    off = os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
    if not (kind == "s3" and off) and _is_in_a_cloud(kind):
        return
    host = socket.gethostname()
    raise UsageError(f"{kind}://{name}: no credentials on {host}: set {_SET[kind]}")


def _is_in_a_cloud(kind: str) -> bool:
    """Whether something answers where a machine of that cloud would be told its credentials."""
    wanted = {
        "s3": os.environ.get("AWS_METADATA_ENDPOINT"),
        "gs": os.environ.get("GCE_METADATA_HOST") or os.environ.get("GCE_METADATA_ROOT"),
    }.get(kind) or _METADATA
    parts = urlsplit(wanted if "://" in wanted else f"http://{wanted}")
    try:
        asked = HTTPConnection(parts.hostname or _METADATA, parts.port or 80, timeout=_ASK_S)
        with closing(asked):
            asked.request("GET", "/")
            asked.getresponse()
    except (OSError, ValueError, HTTPException):
        return False
    return True


def profile() -> Any:
    """Credentials of a profile (files below ~/.aws, single sign-on), which the client itself does
    not read; None where the environment has keys, or nothing speaks of a profile."""
    if any(os.environ.get(variable) for variable in _CREDENTIALS["s3"]):
        return None
    named = os.environ.get("AWS_PROFILE")
    files = [
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        os.environ.get("AWS_CONFIG_FILE", "~/.aws/config"),
    ]
    if not named and not any(os.path.exists(os.path.expanduser(name)) for name in files):
        return None
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        raise UsageError(
            "s3: credentials are in a profile, which takes boto3 to read: "
            "pip install boto3, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from None
    try:
        return Boto3CredentialProvider()
    except Exception as error:  # botocore's own: a profile that is not there, no credentials in it.
        if named:
            raise UsageError(f"s3: AWS_PROFILE = {named}: {' '.join(str(error).split())}") from None
        return None
