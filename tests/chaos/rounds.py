"""One round: an output, a disturbed run, a resume without faults, the checker."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from tests.chaos import checker
from tests.chaos.checker import GivenUp, Tables, check_tables, given_up
from tests.chaos.corpus import Corpus
from tests.chaos.faults import Injector, SmallDisk, end_faults, tell
from tests.chaos.lane import Ended, Lane, run_arguments
from tests.chaos.schedule import VIDEOS, Kill, Round

KILLED = -9
_PROGRESS = re.compile(
    r"((starting|waiting for room|workers are|models are).*; )?videos \d+/\d+ ended, "
)
_OF_LIBRARIES = {
    # Ray says that it was told to lose replies.
    "rpc": re.compile(r".*rpc_chaos\.cc"),
    # Ray says that it looks for copies of what the lost node had.
    "node": re.compile(r".*core_worker\.cc.* Attempting to recover \d+ lost objects "),
}
"""Lines on stderr, by kind of round, that are not the run's to keep back."""


@dataclass
class Result:
    """How a round went. `wrong` is empty where everything held."""

    round: Round
    hits: list[Kill] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    """Exit codes of the disturbed run, the resume, and the retry where there was one."""
    lost: GivenUp = field(default_factory=GivenUp)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class Play:
    """A round being played on a lane. The folder is kept where something was wrong."""

    round: Round
    corpus: Corpus
    truth: Tables
    lane: Lane
    can_mount: bool = False
    keep: bool = False

    def __post_init__(self) -> None:
        if self.round.disk == "tmpfs" and not self.can_mount:
            changed = {"disk": "rlimit", "commit_s": 30.0, "commit_bytes": 2**22}
            self.round = replace(self.round, **changed)  # type: ignore[arg-type]
        self.result = Result(self.round)
        self.home = self.lane.folder / f"round-{self.round.seed}"
        self.output = self.home / "out"

    def __call__(self) -> Result:
        started = time.monotonic()
        self.home.mkdir()
        disk = None
        try:
            disk = self._prepare()
            self._disturb(disk)
            if disk is not None:
                disk.grow()
            end_faults(self.output)
            self._resume()
            self._check_tables()
            if self.result.lost and self.round.retry:
                self._retry()
            self._gc()
        except Exception as error:
            # The campaign goes on: a round that the checker cannot read is one that failed.
            self._wrong(f"the checker: {type(error).__name__}: {error}")
        finally:
            if self.round.kind == "node":
                self.lane.cluster.remove_node()
            if disk is not None:
                if self.result.wrong:
                    shutil.copytree(self.output, self.home / "out-copied", dirs_exist_ok=True)
                disk.close()
        if not (self.result.wrong or self.keep):
            shutil.rmtree(self.home)
        self.result.seconds = time.monotonic() - started
        return self.result

    def _wrong(self, *what: str) -> None:
        self.result.wrong += what

    def _prepare(self) -> SmallDisk | None:
        disk = None
        if self.round.left:
            shutil.copytree(self.corpus.left[self.round.left], self.output)
        elif self.round.disk == "tmpfs":
            size = int(self.round.disk_share * self.corpus.table_bytes)
            disk = SmallDisk(self.output, size)
        tell(self.round, self.output, self.corpus)
        if self.round.kind == "node":
            self.lane.cluster.add_node()
        return disk

    # -- runs -------------------------------------------------------------------------

    def _disturb(self, disk: SmallDisk | None) -> None:
        engine = self.round.engine
        cluster = self.lane.cluster if engine == "attached" else None

        def meanwhile(driver: subprocess.Popen[bytes]) -> Callable[[], None]:
            injector = Injector(self.round, driver, self.output, self.lane.name)
            self.result.hits = injector.hits
            injector.start(cluster)
            return injector.join

        env = {"RAY_testing_rpc_failure": self.round.rpc} if self.round.rpc else {}
        ended = self._run("disturbed", self.round.settings(), engine, meanwhile, env)
        allowed = self._allowed()
        if ended.code not in allowed:
            self._wrong(f"the disturbed run ended with {ended.code}, not {sorted(allowed)}")
        if ended.code in (0, 3):
            # It says that all is there: then it must be, and nothing be left to a resume.
            lost = given_up(Tables(self.output))
            wrong = check_tables(self.output, self.truth, lost)
            self._wrong(*(f"before the resume: {what}" for what in wrong))

    def _allowed(self) -> set[int]:
        """The exit codes that the faults which hit may lead to."""
        roles = {kill.role for kill in self.result.hits}
        if "driver" in roles:
            return {KILLED}
        if self.round.disk:
            return {1}
        if self.round.mark:
            return {3} if self._marked() else {0}
        if self.round.rpc:
            return {0, 1, 3}
        return {0}

    def _resume(self) -> None:
        ended = self._run("resume", [], "local" if self.round.engine == "local" else "attached")
        self.result.lost = given_up(Tables(self.output))
        wanted = 3 if self.result.lost else 0
        if ended.code != wanted:
            self._wrong(f"the resume ended with {ended.code}, not {wanted}")

    def _retry(self) -> None:
        """What was given up is done once the fault has gone."""
        ended = self._run("retry", [], "attached", more=["--retry-failed"])
        if ended.code != 0:
            self._wrong(f"the retry ended with {ended.code}, not 0")
        self._wrong(*check_tables(self.output, self.truth, GivenUp()))

    def _gc(self) -> None:
        ended = self.lane.run(["gc", str(self.output), "--grace", "0"], self.home)
        self._judge("gc", ended)
        if ended.code != 0:
            self._wrong(f"gc ended with {ended.code}")
        self._wrong(*checker.stray_files(self.output))
        self._wrong(*check_tables(self.output, self.truth, self._still_lost()))

    def _still_lost(self) -> GivenUp:
        return GivenUp() if self.round.retry else self.result.lost

    def _run(
        self,
        name: str,
        settings: list[str],
        engine: str,
        meanwhile: Callable[[subprocess.Popen[bytes]], Callable[[], None]] | None = None,
        env: dict[str, str] | None = None,
        more: list[str] | None = None,
    ) -> Ended:
        where = {"local": ["--engine", "local"], "own": ["--address", "local"]}.get(engine)
        where = where or ["--address", self.lane.cluster.address]
        folder = self.corpus.folder
        arguments = run_arguments(folder, self.output, settings, [*where, *(more or [])])
        ended = self.lane.run(arguments, self.home, env=env, meanwhile=meanwhile)
        with suppress(OSError):
            (self.home / "stderr").rename(self.home / f"stderr-{name}")
        self.result.codes.append(ended.code)
        self._judge(name, ended)
        return ended

    def _judge(self, name: str, ended: Ended) -> None:
        """What every run must keep to, whatever happens to it."""
        if ended.hung:
            self._wrong(f"the {name} run did not end")
        self._wrong(*(f"the {name} run left {what}" for what in ended.left))
        lines = [line for line in ended.stderr.splitlines() if line.strip()]
        said = [line for line in lines if line.startswith("frameledger: ")]
        known = [_PROGRESS, _OF_LIBRARIES.get(self.round.kind, _PROGRESS)]
        other = [line for line in lines if line not in said]
        other = [line for line in other if not any(pattern.match(line) for pattern in known)]
        if other:
            self._wrong(f"the {name} run said {len(other)} lines of another kind: {other[0][:200]}")
        # One that is killed may be about to end by itself.
        if len(said) != (ended.code in (1, 2)) and not (ended.code == KILLED and len(said) == 1):
            self._wrong(f"the {name} run ended with {ended.code} and said {said}")

    # -- tables -----------------------------------------------------------------------

    def _check_tables(self) -> None:
        lost = self.result.lost
        self._wrong(*check_tables(self.output, self.truth, lost))
        if self.round.rpc:
            return
        marked = self._marked()
        if lost != marked and (lost or self.round.mark):
            self._wrong(f"given up: {lost}, marked: {marked}")

    def _marked(self) -> GivenUp:
        """What a frame that fails as often as it is tried takes with it."""
        mark = self.round.mark
        if mark is None or 0 < mark.times < self.round.attempts:
            return GivenUp()
        if list(VIDEOS).index(mark.video) < self.round.left:
            return GivenUp()  # It was done before.
        if mark.stage == "index":
            return GivenUp(uris=frozenset([self.corpus.path(mark.video)]))
        video_id = self.corpus.video_id(mark.video)
        rows = self.truth.rows("frames").to_pylist()
        mine = {r["frame_index"]: r["clip_index"] for r in rows if r["video_id"] == video_id}
        clip = [frame for frame, number in mine.items() if number == mine[mark.frame]]
        return GivenUp(clips=frozenset([(video_id, min(clip), max(clip))]))
