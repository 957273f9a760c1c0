"""Runs as jobs of a cluster: handed to its job API, and followed to their end from elsewhere.

The run's own record says how it ended: its row in the table `runs` where the output can be read
from here, else the line that it prints last. The log stream may end before the job does, and the
job API may be away for a while, or for good once the cluster is; neither ends a run.
"""

from __future__ import annotations

import json
import logging
import os
import random
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.engine.tokens import enable_token, refused
from pipeline.errors import EXIT_ABORTED, EXIT_OK, RunAborted, UsageError
from pipeline.run_record import in_words, last_record, record_in

PREFIX = "frameledger-"
"""Of a job's id; what follows is the id of its run."""
REQUEST_S = 30.0
"""Of one request: a tunnel that has broken may not say so."""
POLL_S = 1.0
RECORD_EVERY_S = 15.0
"""How often the output is asked for the run's record while the job API is there."""
SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
"""Between two tries at a job API that is away; doubled each time, and then up to half left out."""
SLOW_S = 5.0
"""An output that takes longer to say nothing (a store without credentials here) is let be."""
PATIENCE_S = 3600.0
"""Without any answer for so long, following ends; the job may well go on."""
_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_SHOWN_LINES = 40


class Away(Exception):
    """The job API cannot be reached, or has lost its head for the moment."""


class JobUnknown(UsageError):
    """The cluster has no such job: it never had, or it is a new cluster at the old address."""


@dataclass(frozen=True)
class JobState:
    """A job as the cluster knows it."""

    status: str
    message: str
    exit_code: int | None
    """Of its process; None where that is not known."""
    metadata: dict[str, str]

    @property
    def ended(self) -> bool:
        return self.status in _ENDED


class JobApi:
    """The job API at an address such as http://127.0.0.1:8265."""

    def __init__(self, address: str) -> None:
        """Raises UsageError for a token that is missing or wrong, and Away."""
        if not address.startswith(("http://", "https://")):
            raise UsageError(
                f"--address {address}: the job API is wanted, such as http://127.0.0.1:8265 "
                "(ssh -L 8265:127.0.0.1:8265 HEAD)"
            )
        self.address = address.rstrip("/")
        self._headers: dict[str, str] = {}
        if self._status() == 401:
            token = enable_token(f"the job API at {self.address}")
            self._headers = {"Authorization": f"Bearer {token}"}
            if self._status() in (401, 403):
                raise refused(f"the job API at {self.address}")

    def submit(
        self, entrypoint: str, job_id: str, metadata: dict[str, str], working_dir: str | None
    ) -> None:
        """Hand in a job, once, however often it is tried. Raises UsageError, Away."""
        from ray.job_submission import JobSubmissionClient

        logging.getLogger("ray").setLevel(logging.ERROR)
        # Ray would otherwise prefer RAY_ADDRESS to the address that it is given.
        os.environ["RAY_API_SERVER_ADDRESS"] = self.address
        try:
            JobSubmissionClient(self.address).submit_job(
                entrypoint=entrypoint,
                submission_id=job_id,
                runtime_env={"working_dir": working_dir} if working_dir else None,
                metadata=metadata,
            )
        except (ConnectionError, OSError) as error:
            raise Away(_first(error)) from None
        except (RuntimeError, ValueError) as error:
            if "already exists" in str(error):  # An earlier try of which the reply was lost.
                return
            raise UsageError(f"{self.address}: the job is not taken: {_first(error)}") from None

    def state(self, job_id: str) -> JobState:
        """Raises JobUnknown, Away."""
        told = self._get(f"/api/jobs/{job_id}")
        return JobState(
            status=str(told["status"]),
            message=" ".join(str(told.get("message") or "").split()),
            exit_code=told.get("driver_exit_code"),
            metadata=told.get("metadata") or {},
        )

    def log(self, job_id: str) -> str:
        """All that the job has printed. Raises JobUnknown, Away."""
        return str(self._get(f"/api/jobs/{job_id}/logs")["logs"] or "")

    def _get(self, path: str) -> Any:
        try:
            return json.loads(self._open(path))
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise JobUnknown(f"{self.address}: no such job: {path.split('/')[3]}") from None
            if error.code in (401, 403):
                raise refused(f"the job API at {self.address}") from None
            raise Away(f"HTTP {error.code}") from None
        except (OSError, ValueError) as error:
            raise Away(_first(error)) from None

    def _status(self) -> int:
        try:
            self._open("/api/version")
        except urllib.error.HTTPError as error:
            return error.code
        except (OSError, ValueError) as error:
            raise Away(_first(error)) from None
        return 200

    def _open(self, path: str) -> bytes:
        request = urllib.request.Request(self.address + path, headers=self._headers)
        with urllib.request.urlopen(request, timeout=REQUEST_S) as answer:
            return bytes(answer.read())


def entrypoint_of(arguments: list[str]) -> str:
    """The shell command of a job: arguments may hold anything."""
    return shlex.join(["python", "-m", *arguments])


def persist(action: Callable[[], Any], tell: Callable[[str], None], patience_s: float) -> Any:
    """Do what may find the job API away, again until it does not. Raises RunAborted."""
    wait, since = SHORTEST_WAIT_S, time.monotonic()
    while True:
        try:
            return action()
        except Away as away:
            if time.monotonic() - since > patience_s:
                raise RunAborted(f"no job API to be had: {away}") from None
            tell(f"no job API to be had ({away}); trying again")
        time.sleep(wait * random.uniform(0.5, 1.0))
        wait = min(LONGEST_WAIT_S, 2 * wait)


@dataclass
class Follower:
    """Follows one job to the end of its run."""

    api: JobApi
    job_id: str
    tell: Callable[[str], None]
    """Shown what is going on."""
    output: str = ""
    """Of the run; asked of the job where it is not given."""
    patience_s: float = PATIENCE_S
    _in_reach: bool = True
    """Whether it is worth while to ask the output."""

    def follow(self) -> int:
        """Wait for the end; the run's exit code.

        Raises UsageError for a job that the cluster does not know, and RunAborted where the
        cluster is away for too long.
        """
        status, wait, heard = "", SHORTEST_WAIT_S, time.monotonic()
        look_at = time.monotonic() + RECORD_EVERY_S
        while True:
            try:
                state = self.api.state(self.job_id)
                if state.ended:
                    return self._end(state)
            except JobUnknown:
                record = self._ended_record()
                if record is None:
                    raise
                return self._say(record, "by its record in the output")
            except Away as away:
                if wait == SHORTEST_WAIT_S:
                    self.tell(f"lost the cluster ({away}); trying again")
                record = self._ended_record()
                if record is not None:
                    return self._say(record, "by its record in the output")
                if time.monotonic() - heard > self.patience_s:
                    raise RunAborted(f"no job API to be had: {away}; {self.hint()}") from None
                time.sleep(wait * random.uniform(0.5, 1.0))
                wait = min(LONGEST_WAIT_S, 2 * wait)
                continue
            if wait > SHORTEST_WAIT_S:
                self.tell("the cluster is there again")
            self.output = self.output or state.metadata.get("output", "")
            wait, heard = SHORTEST_WAIT_S, time.monotonic()
            if state.status != status:
                status = state.status
                self.tell(f"job {self.job_id}: {status.lower()}")
            if time.monotonic() > look_at:
                record = self._ended_record()
                if record is not None:
                    return self._say(record, "by its record in the output")
                look_at = time.monotonic() + RECORD_EVERY_S
            time.sleep(POLL_S)

    def hint(self) -> str:
        """How to go on after this process."""
        return (
            "the job may go on: frameledger submit "
            f"--follow {self.job_id} --address {self.api.address}"
        )

    def _end(self, state: JobState) -> int:
        """The job is at its end: what it printed last, and the exit code by the best witness."""
        self.output = self.output or state.metadata.get("output", "")
        log = persist(lambda: self.api.log(self.job_id), self.tell, self.patience_s)
        printed = last_record(log)
        lines = [line for line in log.splitlines() if printed is None or not _is_record(line)]
        for line in lines[-_SHOWN_LINES:]:
            self.tell(line)
        record = self._ended_record()
        if record is not None:
            return self._say(record, "by its record in the output")
        if printed is not None:
            return self._say(printed, "by what it printed last")
        code = EXIT_OK if state.status == "SUCCEEDED" else (state.exit_code or EXIT_ABORTED)
        self.tell(f"job {self.job_id}: {state.status.lower()}: {state.message}"[:500])
        return code

    def _ended_record(self) -> dict[str, Any] | None:
        """The run's record, where it can be read from here and says how the run ended."""
        if not (self.output and self._in_reach and self.job_id.startswith(PREFIX)):
            return None
        asked = time.monotonic()
        record = record_in(self.output, self.job_id.removeprefix(PREFIX))
        self._in_reach = record is not None or time.monotonic() - asked < SLOW_S
        return record if record is not None and record.get("exit_code") is not None else None

    def _say(self, record: dict[str, Any], witness: str) -> int:
        self.tell(f"run {record.get('run_id', '')}: {in_words(record)} ({witness})")
        return int(record["exit_code"])


def _is_record(line: str) -> bool:
    from pipeline.run_record import PREFIX as RECORD

    return line.startswith(RECORD)


def _first(error: BaseException) -> str:
    """The line that says most: servers answer with whole tracebacks."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Traceback", "File ", "raise "))]
    return (told[-1] if len(lines) > 1 and told else " ".join(lines) or type(error).__name__)[:300]
