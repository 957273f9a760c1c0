"""What one node of a cluster says of itself and of what it can reach.

This module travels by value: a node may have another frameledger, or none. So it needs nothing
but the standard library when it is unpacked, what else it uses is imported by the functions and
is then the node's own, and answers are plain values. An answer that is a text where none is
expected (`problem`) says in one line what is wrong; "" says that nothing is.
"""

from __future__ import annotations

from typing import Any

DISK_FULL, DISK_FULL_SHARE = "RAY_local_fs_capacity_threshold", 0.95
"""Ray's setting for the used share of a disk above which it refuses to spill, and its default."""


class Scout:
    """One process on a node, that answers."""

    def do(self, function: str, *arguments: Any) -> Any:
        return FUNCTIONS[function](*arguments)


def now() -> float:
    """The node's clock, in seconds since 1970."""
    import time

    return time.time()


def facts(store_socket: str) -> dict[str, Any]:
    """Versions and free space (bytes: free, total), the latter where Ray keeps its files, at
    `store_socket`, and in shared memory; the used share at which the disk counts as full."""
    import os
    import platform
    import shutil
    import sys
    from importlib import import_module

    found: dict[str, Any] = {"python": platform.python_version(), "executable": sys.executable}
    for name, module in (("ray", "ray"), ("frameledger", "pipeline")):
        try:
            loaded = import_module(module)
        except Exception as error:  # Whatever a broken installation raises.
            found[name] = ""
            found[f"{name}_problem"] = f"{type(error).__name__}: {error}"[:200]
            continue
        found[name] = str(getattr(loaded, "__version__", ""))
        found[f"{name}_code"] = (
            _digest(os.path.dirname(loaded.__file__ or "")) if (name == "frameledger") else ""
        )
    for name, place in (("disk", store_socket), ("shared_memory", "/dev/shm")):
        while place and not os.path.exists(place):
            place = os.path.dirname(place)
        usage = shutil.disk_usage(place) if place else None
        found[name] = [usage.free, usage.total] if usage is not None else None
    found["disk_full"] = float(os.environ.get(DISK_FULL, DISK_FULL_SHARE))
    return found


def _digest(folder: str) -> str:
    """The package's code: two checkouts of one version may differ."""
    import hashlib
    import os

    digest = hashlib.sha256()
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(files):
            if name.endswith(".py"):
                path = os.path.join(parent, name)
                digest.update(os.path.relpath(path, folder).encode())
                with open(path, "rb") as file:
                    digest.update(file.read())
    return digest.hexdigest()[:8]


def fingerprints(config: str) -> dict[str, str] | str:
    """The analyses of a configuration (JSON) as this node would run them, or what hinders it."""
    try:
        from pipeline.config import Config
        from pipeline.engine.job import analyses_of

        found = analyses_of(Config.model_validate_json(config))
        return {analysis.name: analysis.fingerprint for analysis in found}
    except Exception as error:
        return _line(error)


def see_inputs(sources: list[tuple[str, str]]) -> str:
    """Whether each video, given with its stamp, is there, is the same, and can be read."""
    for uri, stamp in sources:
        try:
            from pipeline.sources.discover import discover

            found: Any = next(iter(discover((uri,))))
            if getattr(found, "stamp", None) is None:
                return f"{uri}: {found.reason}"
            if found.stamp != stamp:
                return f"{uri}: is another file here ({found.stamp}, not {stamp})"
            if "://" in uri:
                from pipeline.storage.objects import read_range

                read_range(uri, 0, 1)
            else:
                with open(uri, "rb") as file:
                    file.read(1)
        except Exception as error:
            return f"{uri}: {_line(error)}"
    return ""


def see_output(theirs: str, content: str, ours: str) -> str:
    """Whether a file of the output that another node wrote is seen, and one can be written.

    Args:
        theirs: path or URI of that file, and what is in it.
        ours: path or URI of the file to write.
    """
    import os

    try:
        if "://" in theirs:
            from pipeline.storage.objects import read, write

            seen = read(theirs).decode()
            write(ours, content.encode())
        elif not os.path.exists(theirs):
            return "is another folder here: what was written elsewhere is not seen"
        else:
            with open(theirs, encoding="utf-8") as file:
                seen = file.read()
            with open(ours, "w", encoding="utf-8") as file:
                file.write(content)
    except Exception as error:
        return _line(error)
    return "" if seen == content else "gives back other bytes than were written"


def ask_job_api(url: str) -> int | str:
    """The status with which the job API answers a caller without a token."""
    import urllib.error
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/api/jobs/", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError as error:
        return _line(error)


def see_gpus() -> list[str] | str:
    """The GPUs that torch sees in this process, by name, each after it has computed something."""
    try:
        import torch

        names = []
        for number in range(torch.cuda.device_count()):
            ones = torch.ones(64, 64, device=f"cuda:{number}")
            if float((ones @ ones).sum().item()) != 64.0**3:
                return f"cuda:{number} computes wrong results"
            names.append(torch.cuda.get_device_name(number))
        return names
    except Exception as error:
        return _line(error)


def _line(error: BaseException) -> str:
    import os

    if isinstance(error, OSError) and error.strerror:
        where = f"{os.fspath(error.filename)}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return (" ".join(str(error).split()) or type(error).__name__)[:300]


FUNCTIONS = {
    function.__name__: function
    for function in (now, facts, fingerprints, see_inputs, see_output, ask_job_api, see_gpus)
}
