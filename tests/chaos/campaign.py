"""Many rounds, a few side by side, and what became of them."""

from __future__ import annotations

import queue
import shutil
import tempfile
import threading
import time
from pathlib import Path

from tests.chaos import report
from tests.chaos.checker import Tables
from tests.chaos.corpus import make_corpus
from tests.chaos.faults import SmallDisk
from tests.chaos.lane import Lane
from tests.chaos.rounds import Play, Result
from tests.chaos.schedule import WITH_HANGS, kind_of, round_of


def campaign(seeds: list[int], *, lanes: int = 2, keep: bool = False) -> int:
    """Play the rounds of `seeds`; print a line each and a table. Returns an exit code."""
    started = time.monotonic()
    # Short: Ray's sockets lie below it, and their paths have a length limit.
    base = Path(tempfile.mkdtemp(prefix="fl-chaos-", dir="/tmp"))
    if not WITH_HANGS:
        seeds = [seed for seed in seeds if kind_of(seed) != "hang"]
    results: list[Result] = []
    try:
        results = play_all(seeds, base, lanes, keep)
    finally:
        if not keep and results and not any(result.wrong for result in results):
            shutil.rmtree(base, ignore_errors=True)
        else:
            print(f"what the rounds left: {base}")
    print(report.table(results, time.monotonic() - started))
    return int(any(result.wrong for result in results) or len(results) < len(seeds))


def play_all(seeds: list[int], base: Path, lanes: int = 1, keep: bool = False) -> list[Result]:
    """Play the rounds of `seeds`, `lanes` at a time, in folders below `base`."""
    corpus = make_corpus(base)
    truth = Tables(corpus.truth)
    can_mount = SmallDisk.permitted(base)
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for seed in seeds:
        waiting.put(seed)
    results: list[Result] = []
    stop = threading.Event()

    def work(number: int) -> None:
        lane = Lane(base / str(number))
        try:
            while not stop.is_set():
                try:
                    seed = waiting.get_nowait()
                except queue.Empty:
                    return
                result = Play(round_of(seed), corpus, truth, lane, can_mount, keep)()
                results.append(result)
                print(report.line_of(result), flush=True)
                if result.wrong:
                    print(report.failed(result), flush=True)
        finally:
            lane.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(lanes)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:
        # Also on Ctrl-C: the rounds under way are played to their end, and their clusters go.
        stop.set()
        for thread in threads:
            thread.join()
    return results
