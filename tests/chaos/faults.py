"""The faults of a round, done to a run that is under way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from tests.chaos.cluster import Cluster
from tests.chaos.corpus import Corpus
from tests.chaos.processes import of_role
from tests.chaos.schedule import Kill, Moment, Round

FILES_EVERY_S = 0.002
PROCESSES_EVERY_S = 0.02
"""How often is looked for what a moment waits for; to go over all processes costs milliseconds."""


class Injector:
    """Kills what the round says, one after the other, each at its moment.

    Attributes:
        hits: the kills that found somebody. Others came too late.
    """

    def __init__(
        self, round_: Round, driver: subprocess.Popen[bytes], output: Path, lane: str
    ) -> None:
        self.hits: list[Kill] = []
        self.cluster: Cluster | None = None
        self._round, self._driver, self._output, self._lane = round_, driver, output, lane
        self._before = count_files(output)
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self, cluster: Cluster | None) -> None:
        self.cluster = cluster
        self._thread.start()

    def join(self) -> None:
        """To be called when the driver has ended."""
        self._thread.join()

    def _work(self) -> None:
        for kill in self._round.kills:
            if self._come(kill.moment, kill) and self._kill(kill):
                self.hits.append(kill)

    def _running(self) -> bool:
        return self._driver.poll() is None

    def _come(self, moment: Moment, kill: Kill) -> bool:
        """Wait for the moment; False where the run ended first."""
        while self._running():
            if self._is_there(moment, kill):
                time.sleep(moment.delay_s)
                return self._running()
            files = moment.after in ("file", "commit")
            time.sleep(FILES_EVERY_S if files else PROCESSES_EVERY_S)
        return False

    def _is_there(self, moment: Moment, kill: Kill) -> bool:
        if moment.after == "start":
            return True
        if moment.after == "work":
            role = "decoder" if kill.role in ("driver", "node") else kill.role
            # Without Ray nobody but the driver is at work: it is when it writes.
            if self._round.engine == "local":
                return count_files(self._output)[1] > self._before[1]
            return bool(of_role(self._lane, role, working=True))
        kind = 0 if moment.after == "file" else 1
        return count_files(self._output)[kind] >= self._before[kind] + moment.count

    def _kill(self, kill: Kill) -> bool:
        if kill.role == "driver":
            return self._end(self._driver.pid)
        if kill.role == "node":
            assert self.cluster is not None
            self.cluster.kill_node()
            return True
        while self._running():
            found = of_role(self._lane, kill.role)
            if found:
                return self._end(found[kill.pick % len(found)])
            time.sleep(PROCESSES_EVERY_S)
        return False

    def _end(self, pid: int) -> bool:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return self._driver.pid == pid or self._running()


def count_files(output: Path) -> tuple[int, int]:
    """(data files, versions) in all tables."""
    data = versions = 0
    for folder, _, names in os.walk(output):
        if folder.endswith("_delta_log"):
            versions += sum(name.endswith(".json") for name in names)
        else:
            data += sum(name.endswith(".parquet") for name in names)
    return data, versions


def tell(round_: Round, output: Path, corpus: Corpus) -> None:
    """Write the faults that are met inside the run's processes (see hook/sitecustomize.py)."""
    told: dict[str, object] = {"pace_s": round_.pace_s}
    if round_.disk == "rlimit":
        told["file_bytes"] = int(round_.disk_share * corpus.largest_file)
    if mark := round_.mark:
        path = corpus.path(mark.video)
        ids = {"index": path, "decode": path, "analyze": corpus.video_id(mark.video)}
        told["mark"] = {"how": mark.how, "stage": mark.stage, "times": mark.times} | ids
        told["mark"] |= {"frame": mark.frame}  # type: ignore[operator]
    folder = Path(f"{output}.faults")
    folder.mkdir()
    (folder / "faults.json").write_text(json.dumps(told))


def end_faults(output: Path) -> None:
    (Path(f"{output}.faults") / "faults.json").unlink()


class SmallDisk:
    """A file system of its own for an output, in memory, that can grow."""

    def __init__(self, folder: Path, nbytes: int) -> None:
        self.folder = folder
        folder.mkdir()
        self._mount(f"size={nbytes // 1024}k")

    @staticmethod
    def permitted(folder: Path) -> bool:
        """Whether this user may mount."""
        try:
            SmallDisk(folder / "try", 2**16).close()
        except (OSError, subprocess.CalledProcessError):
            return False
        finally:
            (folder / "try").rmdir()
        return True

    def grow(self) -> None:
        self._mount("remount,size=64m")

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True, capture_output=True)

    def _mount(self, options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)]
        subprocess.run(command, check=True, capture_output=True)
