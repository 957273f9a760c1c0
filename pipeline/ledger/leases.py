"""Which videos each of the runs that are going on in an output has taken.

No row hangs on a lease while rows are only added: ids guard those (see `delta`). It saves two runs
at once from doing the same work, and tells the journal of a run that died from that of one that
is still writing it. What takes rows away (`gc --superseded`, `reopen`) waits until no run is alive.

The same bytes under two names may be worked by two runs at once, and land once: leases are of
files, which need not be read to be taken.

    OUTPUT/_runs/RUN/lease.json     host, process; touched every few seconds (see `alive`)
    OUTPUT/_runs/RUN/taken          16 bytes for each video that the run has taken (on a store, in
                                    objects taken/000001 ...)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from contextlib import suppress

import numpy as np

from pipeline.errors import RunAborted
from pipeline.ledger.alive import FOLDER, LEASE, SeenLease, files_of_runs, forget, this_process
from pipeline.ledger.folder import Entry, Folder, Log, folder_at
from pipeline.ledger.keys import key_of
from pipeline.storage.uris import is_remote

TOUCH_S = 5.0
GROUP_S = 1.0
"""On a store, where to take costs some requests, videos are taken in groups that last for about so
long."""
MOST_AT_ONCE = 256
SETTLE_S = 0.5
"""On a store: longer than it takes from seeing a video free to having taken it, as a rule."""
_PIECE_BYTES = 64 * 2**10
_KEY_BYTES = 16

Key = tuple[int, int]


class Lease:
    """A run's own; made when it takes its first video, gone when it ends."""

    def __init__(self, root: str, run_id: str, what: str = "") -> None:
        """`what`: names the work; runs that do other work with the same videos are let be."""
        self._folder = folder_at(root)
        self._run_id = run_id
        self._what = what
        self._since = time.time()
        self._others = _Others(self._folder, run_id)
        self._pace = _Pace() if is_remote(root) else None
        self._taken: Log | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._touch, daemon=True)

    @property
    def is_open(self) -> bool:
        return self._taken is not None

    @property
    def at_once(self) -> int:
        """How many videos to take together now."""
        return self._pace.size if self._pace is not None else 1

    def open(self) -> None:
        """Raises RunAborted where the output cannot be written."""
        try:
            self._folder.write(f"{self._own}/{LEASE}", this_process(self._since))
            self._taken = self._folder.grow(f"{self._own}/taken", piece_bytes=_PIECE_BYTES)
        except OSError as error:
            raise self._full(error) from error
        self._thread.start()

    def take(self, uri: str) -> bool:
        """Whether this run is to work on the video: see `take_all`."""
        return bool(self.take_all([uri]))

    def take_all(self, uris: Iterable[str]) -> set[str]:
        """The videos among these that this run is to work on; not those where another that is
        alive does, nor (once) those where one did: the books may know by now what became of them.

        Of two that take one at the same moment on a store, the one whose id comes first keeps it:

            first     looks   takes           looks: both, it is mine
            second       looks   takes    waits, looks: both, it is the first's

        On a disk nobody waits, and neither has it: they meet again at the end of their lists, where
        both let go before they go on.
        """
        if not self.is_open:
            self.open()
        assert self._taken is not None
        keys = {uri: self._key(uri) for uri in uris}
        try:
            self._others.look()
            free = {uri: key for uri, key in keys.items() if self._others.leave_free(key)}
            if free:
                self._taken.append(b"".join(map(_packed, free.values())))
                if self._pace is not None and self._others.any_before(self._run_id):
                    time.sleep(SETTLE_S)
                self._others.look()
        except OSError as error:
            raise self._full(error) from error
        if self._pace is not None:
            self._pace.took(len(keys))
        holders = {uri: self._others.holder(key) for uri, key in free.items()}
        first = self._pace is not None
        return {
            uri for uri, run in holders.items() if run is None or (first and self._run_id < run)
        }

    def others_hold(self, uris: Iterable[str]) -> bool:
        """Whether any run that is alive holds one of these videos, for the same work."""
        try:
            self._others.look()
        except OSError as error:
            raise self._full(error) from error
        holders = [self._others.holder(self._key(uri)) for uri in uris]
        return any(run is not None for run in holders)

    @property
    def _own(self) -> str:
        return f"{FOLDER}/{self._run_id}"

    def _full(self, error: OSError) -> RunAborted:
        what = f"output {self._folder.root}: cannot write {self._own}"
        return RunAborted(f"{what}: {error.strerror or error}")

    def _key(self, uri: str) -> Key:
        return key_of(f"{self._what} {uri}")

    def release(self) -> None:
        """All that was taken is done and committed: others need not wait for it."""
        if self._taken is not None:
            try:
                self._taken.clear()
            except OSError as error:
                raise self._full(error) from error

    def close(self) -> None:
        """The run is at its end."""
        self._stop.set()
        if self._taken is not None:
            self._thread.join()
            self._taken.close()
            self._taken = None
            forget(self._folder.root, self._run_id)

    def _touch(self) -> None:
        while not self._stop.wait(TOUCH_S):
            with suppress(OSError):  # A store that is away for a moment; the run will say more.
                # Made anew where somebody took this run for dead.
                self._folder.touch(f"{self._own}/{LEASE}", this_process(self._since))


class _Pace:
    """How many videos are worth one look at what others have taken: as many as are worked on in
    GROUP_S, so that a million small ones do not cost a million requests, and long ones are shared
    one by one."""

    def __init__(self) -> None:
        self.size = 1
        self._last = 0.0

    def took(self, count: int) -> None:
        now = time.monotonic()
        waited, self._last = now - self._last, now
        if waited < GROUP_S and count >= self.size:
            self.size = min(2 * self.size, MOST_AT_ONCE)
        elif waited > 2 * GROUP_S:
            self.size = max(1, self.size // 2)


class _Others:
    """What the other runs have taken, read as far as it has been written at the last look."""

    def __init__(self, folder: Folder, run_id: str) -> None:
        self._folder = folder
        self._run_id = run_id
        self._leases: dict[str, SeenLease] = {}
        self._read: dict[str, dict[str, int]] = {}
        """By run and file, how many bytes of it are known."""
        self._taken: dict[Key, str] = {}
        self._had: set[Key] = set()
        """What runs had taken that have let go of it."""

    def look(self) -> None:
        runs = files_of_runs(self._folder)
        runs.pop(self._run_id, None)
        for run_id in [run for run in self._read if run not in runs]:
            self._let_go(run_id)
        self._leases = {run: self._lease(run, files) for run, files in runs.items()}
        for run_id, files in runs.items():
            self._read_on(run_id, [entry for name, entry in files.items() if name != LEASE])

    def any_before(self, run_id: str) -> bool:
        """Whether a run is alive whose id comes before one."""
        return any(run < run_id and lease.is_alive() for run, lease in self._leases.items())

    def holder(self, key: Key) -> str | None:
        """The run that has taken the video, None where none that is alive has."""
        run_id = self._taken.get(key)
        if run_id is not None and self._leases[run_id].is_alive():
            return run_id
        self._taken.pop(key, None)
        self._had.discard(key)
        return None

    def leave_free(self, key: Key) -> bool:
        """Whether nobody has the video, and nobody had it. That somebody had is told once."""
        known = key in self._taken or key in self._had
        return self.holder(key) is None and not known

    def _lease(self, run_id: str, files: dict[str, Entry]) -> SeenLease:
        seen, entry = self._leases.get(run_id), files.get(LEASE)
        if seen is None or not seen.said:
            return SeenLease(self._folder, entry)
        seen.entry = entry
        return seen

    def _let_go(self, run_id: str) -> None:
        self._had |= {key for key, run in self._taken.items() if run == run_id}
        self._taken = {key: run for key, run in self._taken.items() if run != run_id}
        self._read.pop(run_id, None)

    def _read_on(self, run_id: str, files: list[Entry]) -> None:
        sizes = {entry.name: entry.size_bytes for entry in files}
        if any(sizes.get(name, 0) < at for name, at in self._read.get(run_id, {}).items()):
            self._let_go(run_id)  # Released.
        known = self._read.setdefault(run_id, {})
        for name, size in sizes.items():
            at = known.get(name, 0)
            if size == at:
                continue
            try:
                data = self._folder.read(name, at)
            except FileNotFoundError:
                continue  # Released since it was listed: the next look sees that.
            keys = _unpacked(data)
            known[name] = at + _KEY_BYTES * len(keys)
            for key in keys:
                self._taken.setdefault(key, run_id)


def _packed(key: Key) -> bytes:
    return key[0].to_bytes(8, "little") + key[1].to_bytes(8, "little")


def _unpacked(data: bytes) -> list[Key]:
    """The whole keys in some bytes."""
    numbers = np.frombuffer(data, "<u8", len(data) // _KEY_BYTES * 2).reshape(-1, 2)
    return [(int(hi), int(lo)) for hi, lo in numbers.tolist()]
