"""Ray's token authentication, seen to before Ray is imported: it reads its mode only then.

Ray itself tries for 20 seconds where a cluster refuses its token, and tells so in log lines.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

from pipeline.errors import UsageError

Welcome = Literal["open", "refused", "unknown"]
"""What a cluster says to a caller: it takes the call, it wants another token, it does not say."""

_ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"
"""A call that any client may make, and that changes nothing."""
PROBE_S = 5.0


def prepare_token(address: str | None) -> None:
    """Let Ray use the token that is there where the cluster asks for one.

    Args:
        address: as given to a run: `host:port`, `auto`, `local`, or None for RAY_ADDRESS.

    Raises UsageError where the token is missing or not accepted. Says nothing where the cluster's
    address cannot be told without Ray: connecting will show.
    """
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        return
    if _mode() not in ("", "token", "disabled"):  # Kubernetes' own tokens, say: Ray's to find.
        return
    at = gcs_address(address)
    if at is None or probe_gcs(at) != "refused":
        return
    token = enable_token(f"the Ray at {at}")
    if probe_gcs(at, token) == "refused":
        raise refused(f"the Ray at {at}")


def enable_token(cluster: str) -> str:
    """Switch this process to token authentication; the token. Raises UsageError without one."""
    token = read_token()
    if not token:
        raise UsageError(
            f"{cluster} asks for a token, and there is none: set RAY_AUTH_TOKEN_PATH to a file "
            "that holds it (or RAY_AUTH_TOKEN to itself), and RAY_AUTH_MODE=token"
        )
    mode = _mode()
    if mode == "disabled" or (not mode and "ray" in sys.modules):
        raise UsageError(
            f"{cluster} asks for a token: set RAY_AUTH_MODE=token "
            f"(it is {mode or 'not set, and Ray is imported already'})"
        )
    if not mode:
        os.environ["RAY_AUTH_MODE"] = "token"
    return token


def _mode() -> str:
    return os.environ.get("RAY_AUTH_MODE", "").lower()


def refused(cluster: str) -> UsageError:
    """What to say of a token that is not the cluster's."""
    return UsageError(f"{cluster} does not accept the token of {token_place()}")


def token_place() -> str:
    """Where Ray takes its token from, in its order: a variable, a file that one names, a file."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN"
    return os.environ.get("RAY_AUTH_TOKEN_PATH") or str(Path.home() / ".ray" / "auth_token")


def read_token() -> str:
    """The token; "" for none. Raises UsageError for a file that cannot be read."""
    place = token_place()
    if place == "RAY_AUTH_TOKEN":
        return os.environ[place].strip()
    try:
        return Path(place).expanduser().read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        if os.environ.get("RAY_AUTH_TOKEN_PATH"):
            raise UsageError(f"RAY_AUTH_TOKEN_PATH={place}: no such file") from None
        return ""
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text"
        raise UsageError(f"the token file {place} cannot be read: {why}") from None


def gcs_address(address: str | None) -> str | None:
    """`host:port` of a cluster's control service as far as it can be told without Ray."""
    if address is None or address == "auto":
        address = os.environ.get("RAY_ADDRESS") or address
    if address == "auto":
        folder = Path(os.environ.get("RAY_TMPDIR") or "/tmp") / "ray"
        try:
            address = (folder / "ray_current_cluster").read_text(encoding="utf-8").strip()
        except OSError:
            return None
    host, colon, port = (address or "").rpartition(":")
    return address if colon and port.isdigit() and "/" not in host else None


def probe_gcs(address: str, token: str = "") -> Welcome:
    """What a cluster's control service says to a caller with this token, or with none."""
    try:
        import grpc
    except ImportError:
        return "unknown"
    headers = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(_ALIVE)(b"", timeout=PROBE_S, metadata=headers)
        except grpc.RpcError as error:
            said = error.code()
            return "refused" if said == grpc.StatusCode.UNAUTHENTICATED else "unknown"
    return "open"
