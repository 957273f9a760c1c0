"""Processes of a run, found by a mark in their environment and the titles that Ray gives them."""

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


def marked(lane: str, titles: tuple[str, ...] = ()) -> Iterator[tuple[psutil.Process, str, str]]:
    """(process, title, mark) of the living processes of a lane, those with `titles` if given."""
    for process in psutil.process_iter(["cmdline"]):
        # Empty where it has ended and nobody has asked for its exit code.
        title = " ".join(process.info["cmdline"] or ())
        if not title or (titles and not title.startswith(titles)):
            continue
        try:
            mark = process.environ().get(MARK, "")
        except psutil.Error:
            continue
        if mark.startswith(lane + ":"):
            yield process, title, mark


def of_role(lane: str, role: Role, *, working: bool = False) -> list[int]:
    """Process ids of a run's actors, ascending; only those that execute a call if `working`."""
    found = marked(lane, TITLES[role])
    return sorted(process.pid for process, title, _ in found if "." in title or not working)


def orphans(lane: str, spared: frozenset[int]) -> list[str]:
    """What is left of a run that has ended, after it has had its time to go; not `spared` ids."""
    deadline = time.monotonic() + GONE_S
    while left := list(_of_runs(lane, spared)):
        if time.monotonic() > deadline:
            return left
        time.sleep(0.05)
    return []


def _of_runs(lane: str, spared: frozenset[int]) -> Iterator[str]:
    for process, title, mark in marked(lane):
        mine = mark.endswith(":run") or title.startswith(ACTORS)
        if mine and process.pid not in spared:
            yield f"{process.pid} {title[:60].strip()}"


def end_all(lane: str) -> None:
    """Kill what is left of a lane's runs, so that the next round does not pay for it."""
    for process, title, mark in marked(lane):
        if mark.endswith(":run") or title.startswith(ACTORS):
            try:
                process.kill()
            except psutil.Error:
                continue
