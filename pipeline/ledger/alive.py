"""Which runs are going on in an output: what a run says of itself in its lease, and whether it is
still so.

    OUTPUT/_runs/RUN/lease.json     host, process; touched every few seconds (see `leases`)
"""

from __future__ import annotations

import datetime
import json
import os
import socket
from contextlib import suppress
from typing import Any

from pipeline.ledger.folder import Entry, Folder, folder_at

FOLDER = "_runs"
LEASE = "lease.json"
EXPIRES_S = 60.0
"""Without a touch for so long, a run on another host is taken to be dead. If it is not, work is
done twice and lands once."""


class SeenLease:
    """A run's lease as it was found."""

    def __init__(self, folder: Folder, entry: Entry | None) -> None:
        self._folder = folder
        self.entry = entry
        self.said = _read(folder, entry.name) if entry is not None else {}

    def is_alive(self) -> bool:
        """By its process where that ran on this host, else by when it was last touched."""
        if not self.said or self.entry is None:
            return False
        if self.said["host"] == _host():
            return _runs_here(self.said["pid"], self.said["started_at"])
        return self._folder.now(FOLDER) - self.entry.modified_s < EXPIRES_S


def live_runs(root: str) -> set[str]:
    """Runs that are going on in the output now."""
    return {run_id for run_id, alive in _states(root).items() if alive}


def dead_runs(root: str) -> set[str]:
    """Runs that ended without being able to say so."""
    return {run_id for run_id, alive in _states(root).items() if not alive}


def forget(root: str, run_id: str) -> None:
    """Remove a lease, and the folder of leases where that was the last."""
    folder = folder_at(root)
    with suppress(OSError):  # Whoever finds it takes it for a dead run's.
        folder.remove_folder(f"{FOLDER}/{run_id}")
        folder.sweep(FOLDER, EXPIRES_S)


def began_at(root: str, run_id: str) -> float:
    """When the process of a run began, in seconds since 1970; 0 where its lease does not say."""
    return float(_read(folder_at(root), f"{FOLDER}/{run_id}/{LEASE}").get("started_at", 0.0))


def said_of(root: str, run_id: str) -> str:
    """A run that is going on, for people: its id, where it runs, since when."""
    said = _read(folder_at(root), f"{FOLDER}/{run_id}/{LEASE}")
    if not said:
        return f"run {run_id}"  # It has ended just now.
    began = datetime.datetime.fromtimestamp(said["since"], datetime.timezone.utc)
    host = str(said["host"]).split()[0]
    return f"run {run_id} (process {said['pid']} on {host}, since {began:%Y-%m-%d %H:%M:%S} UTC)"


def _states(root: str) -> dict[str, bool]:
    folder = folder_at(root)
    runs = files_of_runs(folder)
    return {run: SeenLease(folder, files.get(LEASE)).is_alive() for run, files in runs.items()}


def files_of_runs(folder: Folder) -> dict[str, dict[str, Entry]]:
    """The files of each run, by their names below its folder."""
    found: dict[str, dict[str, Entry]] = {}
    for entry in folder.listed(FOLDER):
        _, run_id, name = entry.name.split("/", 2)
        found.setdefault(run_id, {})[name] = entry
    return found


def _read(folder: Folder, name: str) -> dict[str, Any]:
    """What a lease says; nothing where it is gone, or was cut by a machine that went down."""
    try:
        return dict(json.loads(folder.read(name)))
    except (FileNotFoundError, ValueError):
        return {}


def this_process(since: float) -> bytes:
    """What the lease of a run in this process says. `since`: seconds since 1970."""
    import psutil

    process = psutil.Process()
    began = {"started_at": process.create_time(), "since": since}
    said = {"host": _host(), "pid": process.pid, **began}
    return json.dumps(said).encode()


def _host() -> str:
    """The host, and on it the processes that can be seen: two containers may share its name."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _runs_here(pid: int, started_at: float) -> bool:
    import psutil

    try:
        process = psutil.Process(pid)
        # Another process may have been given the same number since.
        alive = abs(process.create_time() - started_at) < 1.0
        return alive and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
