"""Which runs are going on in an output, and which videos each has taken.

No row hangs on a lease while rows are only added: ids guard those (see `delta`). It saves two runs
at once from doing the same work, and tells the journal of a run that died from that of one that
is still writing it. What takes rows away (`gc --superseded`, `reopen`) waits until no run is alive.

    OUTPUT/_runs/RUN/lease.json     host, process; touched every few seconds
    OUTPUT/_runs/RUN/taken          16 bytes for each video that the run has taken
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.errors import RunAborted
from pipeline.ledger.keys import key_of

FOLDER = "_runs"
TOUCH_S = 5.0
EXPIRES_S = 60.0
"""Without a touch for so long, a run on another host is taken to be dead. If it is not, work is
done twice and lands once."""


class Lease:
    """A run's own; made when it takes its first video, gone when it ends."""

    def __init__(self, root: str, run_id: str, what: str = "") -> None:
        """`what`: names the work; runs that do other work with the same videos are let be."""
        self._root = root
        self._run_id = run_id
        self._what = what
        self._folder = Path(root) / FOLDER / run_id
        self._others = _Others(root, run_id)
        self._taken: Any = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._touch, daemon=True)

    @property
    def is_open(self) -> bool:
        return self._taken is not None

    def open(self) -> None:
        """Raises RunAborted where the output cannot be written."""
        try:
            self._say()
            self._taken = open(self._folder / "taken", "ab", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._full(error) from error
        self._thread.start()

    def take(self, uri: str) -> bool:
        """Whether this run is to work on the video; not where another that is alive does.

        Of two that take it at the same moment, the one whose id comes first keeps it.
        """
        if not self.is_open:
            self.open()
        key = self._key(uri)
        if self._others.holder(key) is not None:
            return False
        try:
            self._taken.write(key[0].to_bytes(8, "little") + key[1].to_bytes(8, "little"))
        except OSError as error:
            raise self._full(error) from error
        holder = self._others.holder(key)
        return holder is None or self._run_id < holder

    def others_hold(self, uris: Iterable[str]) -> bool:
        """Whether any run that is alive holds one of these videos, for the same work."""
        return any(self._others.holder(self._key(uri)) is not None for uri in uris)

    def _full(self, error: OSError) -> RunAborted:
        name = f"{FOLDER}/{self._run_id}"
        return RunAborted(f"output {self._root}: cannot write {name}: {error.strerror}")

    def _key(self, uri: str) -> tuple[int, int]:
        return key_of(f"{self._what} {uri}")

    def release(self) -> None:
        """All that was taken is done and committed: others need not wait for it."""
        if self.is_open:
            self._taken.truncate(0)

    def close(self) -> None:
        """The run is at its end."""
        self._stop.set()
        if self.is_open:
            self._thread.join()
            self._taken.close()
            self._taken = None
        forget(self._root, self._run_id)

    def _say(self) -> None:
        """Make the folder with its lease in one step: without one it would be a dead run's."""
        new = self._folder.with_name(f".{self._run_id}")
        new.mkdir(parents=True, exist_ok=True)
        (new / "lease.json").write_text(json.dumps(_this_process()), encoding="utf-8")
        os.rename(new, self._folder)

    def _touch(self) -> None:
        while not self._stop.wait(TOUCH_S):
            try:
                os.utime(self._folder / "lease.json")
            except FileNotFoundError:  # Somebody took this run for dead.
                with suppress(OSError):
                    self._say()
            except OSError:
                continue  # A store that is away for a moment; the run itself will say more.


class _Others:
    """What the other runs that are alive have taken, read as far as it has been written."""

    def __init__(self, root: str, run_id: str) -> None:
        self._root = root
        self._run_id = run_id
        self._read: dict[str, int] = {}
        self._taken: dict[tuple[int, int], str] = {}

    def holder(self, key: tuple[int, int]) -> str | None:
        """The run that has taken the video, None where none that is alive has."""
        for run_id in _runs(self._root):
            if run_id != self._run_id:
                self._read_on(run_id)
        holder = self._taken.get(key)
        if holder is not None and not is_alive(self._root, holder):
            del self._taken[key]
            return None
        return holder

    def _read_on(self, run_id: str) -> None:
        at = self._read.get(run_id, 0)
        try:
            with open(Path(self._root) / FOLDER / run_id / "taken", "rb") as file:
                if os.fstat(file.fileno()).st_size < at:  # Released.
                    self._taken = {k: run for k, run in self._taken.items() if run != run_id}
                    at = 0
                file.seek(at)
                data = file.read()
        except FileNotFoundError:
            return
        whole = len(data) // 16 * 16
        self._read[run_id] = at + whole
        for start in range(0, whole, 16):
            hi, lo = data[start : start + 8], data[start + 8 : start + 16]
            key = int.from_bytes(hi, "little"), int.from_bytes(lo, "little")
            self._taken.setdefault(key, run_id)


def live_runs(root: str) -> set[str]:
    """Runs that are going on in the output now."""
    return {run_id for run_id in _runs(root) if is_alive(root, run_id)}


def dead_runs(root: str) -> set[str]:
    """Runs that ended without being able to say so."""
    return {run_id for run_id in _runs(root) if not is_alive(root, run_id)}


def forget(root: str, run_id: str) -> None:
    """Remove a lease, and the folder of leases where that was the last."""
    folder = Path(root) / FOLDER
    shutil.rmtree(folder / run_id, ignore_errors=True)
    with suppress(OSError):
        for unborn in folder.glob(".*"):  # Killed while it made its lease.
            if _clock_of(folder) - unborn.stat().st_mtime > EXPIRES_S:
                shutil.rmtree(unborn, ignore_errors=True)
    with suppress(OSError):  # Other runs have theirs there, or there is none.
        folder.rmdir()


def is_alive(root: str, run_id: str) -> bool:
    """By its process where that ran on this host, else by when its lease was last touched."""
    path = Path(root) / FOLDER / run_id / "lease.json"
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        touched = path.stat().st_mtime
    except FileNotFoundError:
        return False
    except ValueError:
        return False  # Cut by a machine that went down.
    if said["host"] == _host():
        return _runs_here(said["pid"], said["started_at"])
    return _clock_of(path.parent.parent) - touched < EXPIRES_S


def began_at(root: str, run_id: str) -> float:
    """When the process of a run began, in seconds since 1970; 0 where its lease does not say."""
    path = Path(root) / FOLDER / run_id / "lease.json"
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["started_at"])
    except (OSError, ValueError, KeyError):
        return 0.0


def _runs(root: str) -> list[str]:
    try:
        found = (entry for entry in os.scandir(Path(root) / FOLDER) if entry.is_dir())
        return sorted(entry.name for entry in found if not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _this_process() -> dict[str, Any]:
    import psutil

    process = psutil.Process()
    return {
        "host": _host(),
        "pid": process.pid,
        "started_at": process.create_time(),
    }


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


def _clock_of(folder: Path) -> float:
    """Now, by the clock of the file system: hosts may disagree about the time."""
    import tempfile
    import time

    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".clock-") as probe:
            return os.stat(probe.name).st_mtime
    except OSError:
        return time.time()
