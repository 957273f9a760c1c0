"""Which videos each of the runs that are going on in an output has taken.

No row hangs on a lease while rows are only added: ids guard those (see `delta`). It saves two runs
at once from doing the same work, and tells the journal of a run that died from that of one that
is still writing it. What takes rows away (`gc --superseded`, `reopen`) waits until no run is alive.

The same bytes under two names may be worked by two runs at once, and land once: leases are of
files, which need not be read to be taken.

    OUTPUT/_runs/RUN/lease.json     host, process; touched every few seconds (see `alive`)
    OUTPUT/_runs/RUN/taken-1        what the run asks for and has, in records of 16 bytes (on a
                                    store, in objects taken-1/000001 ...); taken-2 once it has let
                                    go of all of that

A record is a video, or SETTLED. Videos are asked for until SETTLED follows them: the run has those
then, but for the ones that stood there a second time before it.

    a b c  b SETTLED     asked for a, b and c; has a and c
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from contextlib import suppress

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
UNSETTLED_S = 60.0
"""How long a run that asks and does not settle is waited for: it has been stopped, or its host has.
Should it go on, work is done twice and lands once."""
LOOK_S = 0.1
SETTLED = b"\xff" * 16
_KEY_BYTES = 16
_PIECE_BYTES = 16 * (MOST_AT_ONCE + 1) * _KEY_BYTES
"""Sixteen of the largest groups."""


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
        self._released = 0
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
            self._taken = self._log()
        except OSError as error:
            raise self._full(error) from error
        self._thread.start()

    def take(self, uri: str) -> bool:
        """Whether this run is to work on the video: see `take_all`."""
        return bool(self.take_all([uri]))

    def take_all(self, uris: Iterable[str]) -> set[str]:
        """The videos among these that this run is to work on; not those where another that is
        alive does, nor (once) those where one did: the books may know by now what became of them.

        A run asks, looks, and settles. Of two that ask for one video at the same moment at least
        the later one sees the other: whoever sees an earlier id asking leaves the video to it, and
        whoever sees a later one waits until that has settled, since it may have looked too early to
        see this one:

            first     asks           looks   waits    looks: the second has let go; settles: mine
            second            asks   looks: the first asks; settles: not mine
        """
        if not self.is_open:
            self.open()
        assert self._taken is not None
        keys = {uri: self._key(uri) for uri in uris}
        try:
            self._taken.append(b"".join(keys.values()))
            self._others.look()
            mine = {uri for uri, key in keys.items() if self._others.leave_free(key)}
            until = time.monotonic() + UNSETTLED_S
            while self._others.unsettled(keys[uri] for uri in mine) and time.monotonic() < until:
                time.sleep(LOOK_S)
                self._others.look()
            mine = {uri for uri in mine if self._others.holder(keys[uri]) is None}
            not_mine = (key for uri, key in keys.items() if uri not in mine)
            self._taken.append(b"".join([*not_mine, SETTLED]))
        except OSError as error:
            raise self._full(error) from error
        if self._pace is not None:
            self._pace.took(len(keys))
        return mine

    def others_hold(self, uris: Iterable[str]) -> bool:
        """Whether any run that is alive holds one of these videos, for the same work."""
        try:
            self._others.look()
        except OSError as error:
            raise self._full(error) from error
        keys = [self._key(uri) for uri in uris]
        free = [key for key in keys if self._others.holder(key) is None]
        for key in free:
            self._others.forget(key)
        return len(free) < len(keys)

    def _log(self) -> Log:
        # A new name: whoever reads along has to see that the old one is gone.
        name = f"{self._own}/taken-{self._released + 1}"
        return self._folder.grow(name, piece_bytes=_PIECE_BYTES)

    @property
    def _own(self) -> str:
        return f"{FOLDER}/{self._run_id}"

    def _full(self, error: OSError) -> RunAborted:
        what = f"output {self._folder.root}: cannot write {self._own}"
        return RunAborted(f"{what}: {error.strerror or error}")

    def _key(self, uri: str) -> bytes:
        high, low = key_of(f"{self._what} {uri}")
        return high.to_bytes(8, "little") + low.to_bytes(8, "little")

    def release(self) -> None:
        """All that was taken is done and committed: others need not wait for it."""
        if self._taken is not None:
            try:
                names = self._taken.names()
                self._taken.close()
                self._folder.remove(names)
                self._released += 1
                self._taken = self._log()
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


class _Claims:
    """What one run asks for and has."""

    def __init__(self) -> None:
        self.asked: set[bytes] = set()
        self.held: set[bytes] = set()
        self.read: dict[str, int] = {}
        """By file, how many bytes of it are known."""

    def take(self, records: Iterable[bytes]) -> None:
        for record in records:
            if record == SETTLED:
                self.held |= self.asked
                self.asked.clear()
            elif record in self.asked:
                self.asked.discard(record)
            else:
                self.asked.add(record)


class _Others:
    """What the other runs have taken, read as far as it has been written at the last look."""

    def __init__(self, folder: Folder, run_id: str) -> None:
        self._folder = folder
        self._run_id = run_id
        self._leases: dict[str, SeenLease] = {}
        self._claims: dict[str, _Claims] = {}
        self._had: set[bytes] = set()
        """What runs had taken that have let go of it."""

    def look(self) -> None:
        runs = files_of_runs(self._folder)
        runs.pop(self._run_id, None)
        for run_id in [run for run in self._claims if run not in runs]:
            self._let_go(run_id)
        self._leases = {run: self._lease(run, files) for run, files in runs.items()}
        for run_id, files in runs.items():
            self._read_on(run_id, [entry for name, entry in files.items() if name != LEASE])

    def holder(self, key: bytes) -> str | None:
        """The run that has the video, or asks for it before this one; None where none that is
        alive does."""
        for run_id, claims in self._claims.items():
            asks = run_id < self._run_id and key in claims.asked
            if (asks or key in claims.held) and self._is_alive(run_id):
                return run_id
        return None

    def unsettled(self, keys: Iterable[bytes]) -> bool:
        """Whether a run that comes after this one asks for any of the videos."""
        asking = [
            claims.asked
            for run_id, claims in self._claims.items()
            if claims.asked and run_id > self._run_id and self._is_alive(run_id)
        ]
        return any(key in asked for key in keys for asked in asking)

    def leave_free(self, key: bytes) -> bool:
        """Whether nobody has the video, and nobody had it. That somebody had is told once."""
        if self.holder(key) is not None:
            return False
        had = key in self._had or any(key in claims.held for claims in self._claims.values())
        self.forget(key)
        return not had

    def forget(self, key: bytes) -> None:
        """Nobody has the video: whoever had is told of by this."""
        self._had.discard(key)
        for claims in self._claims.values():
            claims.held.discard(key)

    def _is_alive(self, run_id: str) -> bool:
        return self._leases[run_id].is_alive()

    def _lease(self, run_id: str, files: dict[str, Entry]) -> SeenLease:
        seen, entry = self._leases.get(run_id), files.get(LEASE)
        if seen is None or not seen.said:
            return SeenLease(self._folder, entry)
        seen.entry = entry
        return seen

    def _let_go(self, run_id: str) -> None:
        claims = self._claims.pop(run_id, None)
        if claims is not None:
            self._had |= claims.held

    def _read_on(self, run_id: str, files: list[Entry]) -> None:
        sizes = {entry.name: entry.size_bytes for entry in files}
        known = self._claims.get(run_id, _Claims()).read
        if any(sizes.get(name, 0) < at for name, at in known.items()):
            self._let_go(run_id)  # Released.
        claims = self._claims.setdefault(run_id, _Claims())
        for name in sorted(sizes):
            at = claims.read.get(name, 0)
            if sizes[name] == at:
                continue
            try:
                data = self._folder.read(name, at)
            except FileNotFoundError:
                return  # Released since it was listed: the next look sees that.
            whole = len(data) // _KEY_BYTES * _KEY_BYTES
            claims.read[name] = at + whole
            claims.take(data[i : i + _KEY_BYTES] for i in range(0, whole, _KEY_BYTES))
