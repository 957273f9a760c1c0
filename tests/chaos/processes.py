"""Processes of a run, found by a mark in their environment and by the titles that Ray gives them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psutil

from tests.chaos.schedule import Role

MARK = "FRAMELEDGER_CHAOS"
"""Environment variable that a lane gives to its cluster (`NAME:cluster`), and to its drivers with
all that they start (`NAME:run`)."""
TITLES: dict[Role, tuple[str, ...]] = {
    "decoder": ("ray::FusedActor", "ray::DecoderActor"),
    "analyzer": ("ray::AnalyzerActor",),
    "collector": ("ray::CollectorActor",),
}
ACTORS = tuple(title for titles in TITLES.values() for title in titles)
GONE_S = 10.0
"""After a driver's end its actors and its own Ray have so long to go."""


def marked(lane: str) -> Iterator[tuple[psutil.Process, str, str]]:
    """(process, title, mark) of all living processes of a lane."""
    for process in psutil.process_iter(["cmdline", "status"]):
        try:
            if process.info["status"] == psutil.STATUS_ZOMBIE:
                continue
            mark = process.environ().get(MARK, "")
        except psutil.Error:
            continue
        if mark.startswith(lane + ":"):
            yield process, " ".join(process.info["cmdline"] or ()), mark


def of_role(lane: str, role: Role, *, working: bool = False) -> list[int]:
    """Process ids of a run's actors, ascending; only those that execute a call if `working`."""
    return sorted(
        process.pid
        for process, title, _ in marked(lane)
        if title.startswith(TITLES[role]) and ("." in title or not working)
    )


def orphans(lane: str) -> list[str]:
    """What is left of a run that has ended, after it has had its time to go."""
    deadline = time.monotonic() + GONE_S
    while left := list(_of_runs(lane)):
        if time.monotonic() > deadline:
            return left
        time.sleep(0.05)
    return []


def _of_runs(lane: str) -> Iterator[str]:
    for process, title, mark in marked(lane):
        if mark.endswith(":run") or title.startswith(ACTORS):
            yield f"{process.pid} {title[:60]}"


def end_all(lane: str) -> None:
    """Kill what is left of a lane's runs, so that the next round does not pay for it."""
    for process, title, mark in marked(lane):
        if mark.endswith(":run") or title.startswith(ACTORS):
            try:
                process.kill()
            except psutil.Error:
                continue
